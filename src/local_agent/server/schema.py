"""The GraphQL schema: one type, filter and order for each table of tables.py, and the operations of operations.py."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from graphql import (
    GraphQLError,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    ValueNode,
    build_schema,
    value_from_ast_untyped,
)

from local_agent.server import arguments, timestamps
from local_agent.server.operations import OPERATIONS
from local_agent.server.reading import Query
from local_agent.server.request import Request
from local_agent.server.tables import TABLES, Kind, Relation, Table

Handler = Callable[[Request, dict[str, Any]], object]
"""Answers an operation, given its request and its input."""

_COMPARISONS = {
    Kind.TEXT: ("_lt", "_lte", "_gt", "_gte", "_like", "_nlike", "_ilike", "_nilike"),
    Kind.UUID: ("_lt", "_lte", "_gt", "_gte"),
    Kind.INT: ("_lt", "_lte", "_gt", "_gte"),
    Kind.BOOL: (),
    Kind.TIME: ("_lt", "_lte", "_gt", "_gte"),
    Kind.JSON: ("_contains",),
}


def _comparison(kind: Kind) -> str:
    name = kind.graphql
    operators = "".join(f" {operator}: {name}" for operator in ("_eq", "_neq", *_COMPARISONS[kind]))
    lists = f" _in: [{name}!] _nin: [{name}!]"
    return f"input {name}_comparison_exp {{{operators}{lists} _is_null: Boolean }}"


def _arguments(name: str) -> str:
    return (
        f"(where: {name}_bool_exp, order_by: [{name}_order_by!], distinct_on: [{name}_select_column!],"
        " limit: Int, offset: Int)"
    )


def _relation(relation: Relation) -> str:
    if not relation.many:
        return f" {relation.name}: {relation.table}"
    arguments_ = _arguments(relation.table)
    return (
        f" {relation.name}{arguments_}: [{relation.table}!]!"
        f" {relation.name}_aggregate{arguments_}: {relation.table}_aggregate"
    )


def _type(table: Table) -> str:
    name = table.name
    columns = "".join(f" {column.name}: {column.kind.graphql}" for column in table.columns)
    relations = "".join(map(_relation, table.relations))
    filters = "".join(f" {column.name}: {column.kind.graphql}_comparison_exp" for column in table.columns)
    related = "".join(f" {relation.name}: {relation.table}_bool_exp" for relation in table.relations)
    orders = "".join(f" {column.name}: order_by" for column in table.columns)
    order_related = "".join(f" {r.name}: {r.table}_order_by" for r in table.relations if not r.many)
    return f"""
type {name} {{{columns}{relations} }}
type {name}_aggregate {{ aggregate: {name}_aggregate_fields nodes: [{name}!]! }}
type {name}_aggregate_fields {{ count: Int }}
input {name}_bool_exp {{ _and: [{name}_bool_exp] _or: [{name}_bool_exp] _not: {name}_bool_exp{filters}{related} }}
input {name}_order_by {{{orders}{order_related} }}
enum {name}_select_column {{{"".join(f" {column.name}" for column in table.columns)} }}
extend type Query {{
  {name}{_arguments(name)}: [{name}!]!
  {name}_by_pk(id: uuid!): {name}
  {name}_aggregate{_arguments(name)}: {name}_aggregate
}}"""


def text() -> str:
    """Return the whole schema in GraphQL's own language."""
    scalars = "scalar uuid\nscalar timestamptz\nscalar jsonb"
    order = "enum order_by { asc desc asc_nulls_first asc_nulls_last desc_nulls_first desc_nulls_last }"
    return "\n".join([OPERATIONS, scalars, order, *map(_comparison, Kind), *map(_type, TABLES)])


def build(queries: Mapping[str, Handler], mutations: Mapping[str, Handler]) -> GraphQLSchema:
    """Given who answers which operation, return the schema. Raise KeyError for an operation without an answer."""
    # A test checks that it is valid; each start of the API need not.
    schema = build_schema(text(), assume_valid=True, assume_valid_sdl=True, no_location=True)
    for name in ("UUID", "uuid"):
        _parsed_by(schema, name, _parse_uuid)
    for name in ("DateTime", "timestamptz"):
        _parsed_by(schema, name, _parse_time)
    for table in TABLES:
        for field in _object(schema, table.name).fields.values():
            field.resolve = _selected
        for suffix in ("_aggregate", "_aggregate_fields"):
            for field in _object(schema, table.name + suffix).fields.values():
                field.resolve = _selected
    _resolve_root(_object(schema, "Query"), {**_table_queries(), **{n: _query(h) for n, h in queries.items()}})
    _resolve_root(_object(schema, "Mutation"), {n: _mutation(h) for n, h in mutations.items()})
    return schema


def _resolve_root(root: GraphQLObjectType, resolvers: Mapping[str, Callable[..., object]]) -> None:
    for name, field in root.fields.items():
        field.resolve = resolvers[name]


def _object(schema: GraphQLSchema, name: str) -> GraphQLObjectType:
    found = schema.get_type(name)
    assert isinstance(found, GraphQLObjectType)
    return found


def _parsed_by(schema: GraphQLSchema, name: str, parse: Callable[[object], str]) -> None:
    def parse_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> str:
        return parse(value_from_ast_untyped(node, variables))

    # A scalar of build_schema has no parser of its own. graphql-core 3.2 looks for the first of these names and
    # 3.3 for the second; a literal is found by the third in both.
    scalar = schema.get_type(name)
    for attribute, parser in (
        ("parse_value", parse),
        ("coerce_input_value", parse),
        ("parse_literal", parse_literal),
    ):
        setattr(scalar, attribute, parser)


def _parse_uuid(value: object) -> str:
    try:
        return str(uuid.UUID(value if isinstance(value, str) else ""))
    except ValueError:
        raise GraphQLError(f"{value!r} is no UUID") from None


def _parse_time(value: object) -> str:
    try:
        return timestamps.normalise(value)
    except ValueError as error:
        raise GraphQLError(str(error)) from None


def _selected(source: dict[str, Any], info: GraphQLResolveInfo[Any], **_arguments: object) -> object:
    """Rows come from SQL already keyed by the names of the answer: arguments and aliases were heeded there."""
    return source[str(info.path.key)]


def _reading(info: GraphQLResolveInfo[Any]) -> Query:
    request: Request = info.context
    return Query(request.database, arguments.reader(info.operation, info.fragments, request.variables))


def _table_queries() -> dict[str, Callable[..., object]]:
    resolvers: dict[str, Callable[..., object]] = {}
    for table in TABLES:
        resolvers[table.name] = _table_query(table, Query.rows)
        resolvers[f"{table.name}_by_pk"] = _table_query(table, Query.by_key)
        resolvers[f"{table.name}_aggregate"] = _table_query(table, Query.aggregate)
    return resolvers


def _table_query(table: Table, read: Callable[..., object]) -> Callable[..., object]:
    def resolve(_source: object, info: GraphQLResolveInfo[Any], **_arguments: object) -> object:
        return read(_reading(info), table, list(info.field_nodes))

    return resolve


def _query(handler: Handler) -> Callable[..., object]:
    def resolve(_source: object, info: GraphQLResolveInfo[Any], **given: object) -> object:
        return handler(info.context, given)

    return resolve


def _mutation(handler: Handler) -> Callable[..., object]:
    def resolve(_source: object, info: GraphQLResolveInfo[Any], **given: Any) -> object:  # noqa: ANN401 - its input
        request: Request = info.context
        with request.database.savepoint():
            return handler(request, given["input"])

    return resolve
