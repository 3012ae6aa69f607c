"""The GraphQL schema: one type, filter and order for each table of data/tables.py, and the operations of sdl.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphql import (
    GraphQLError,
    GraphQLSchema,
    ValueNode,
    build_schema,
    value_from_ast_untyped,
)

from local_agent.server.data import timestamps
from local_agent.server.data.descriptions import Kind, Relation, Table
from local_agent.server.data.tables import TABLES
from local_agent.server.graphql.sdl import OPERATIONS
from local_agent.server.input import shapes
from local_agent.server.input.json_text import shortened

_COMPARISONS = {
    Kind.TEXT: ("_lt", "_lte", "_gt", "_gte", "_like", "_nlike", "_ilike", "_nilike"),
    Kind.UUID: ("_lt", "_lte", "_gt", "_gte"),
    Kind.INT: ("_lt", "_lte", "_gt", "_gte"),
    Kind.BOOL: (),
    Kind.TIME: ("_lt", "_lte", "_gt", "_gte"),
    Kind.JSON: ("_contains", "_contained_in"),
}

# Those of jsonb that take keys, and not a value of its kind.
_KEY_COMPARISONS = " _has_key: String _has_keys_all: [String!] _has_keys_any: [String!]"


def _comparison(kind: Kind) -> str:
    name = kind.graphql
    operators = "".join(f" {operator}: {name}" for operator in ("_eq", "_neq", *_COMPARISONS[kind]))
    lists = f" _in: [{name}!] _nin: [{name}!]"
    keys = _KEY_COMPARISONS if kind is Kind.JSON else ""
    return f"input {name}_comparison_exp {{{operators}{lists}{keys} _is_null: Boolean }}"


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


def build() -> GraphQLSchema:
    """Return the schema. It says what may be asked; who answers is execution.py's."""
    # A test checks that it is valid; each start of the API need not.
    schema = build_schema(text(), assume_valid=True, assume_valid_sdl=True, no_location=True)
    for name in ("UUID", "uuid"):
        _parsed_by(schema, name, _parse_uuid)
    for name in ("DateTime", "timestamptz"):
        _parsed_by(schema, name, _parse_time)
    return schema


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
        return shapes.uuid_text(value)
    except ValueError:
        raise GraphQLError(f"{shortened(repr(value))} is no UUID") from None


def _parse_time(value: object) -> str:
    try:
        return timestamps.normalise(value)
    except ValueError as error:
        raise GraphQLError(str(error)) from None
