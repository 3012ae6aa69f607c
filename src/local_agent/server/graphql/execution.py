"""Does what a request orders, root field by root field, each to JSON text.

Not by graphql-core's own executor: whatever lies below a table's field has been made by SQL already, as JSON, and
would only be taken apart and put together again value by value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    OperationDefinitionNode,
    SelectionSetNode,
    execute_sync,
    get_argument_values,
    get_nullable_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)

from local_agent.server.asking.request import Request, Steps
from local_agent.server.data.descriptions import Table
from local_agent.server.data.tables import TABLES
from local_agent.server.graphql.arguments import Reader
from local_agent.server.graphql.documents import Order
from local_agent.server.graphql.reading import Query
from local_agent.server.input.json_text import to_json
from local_agent.server.input.refusals import OutOfTimeError

Handler = Callable[[Request, dict[str, Any]], object]
"""Answers an operation, given its request and its input."""

_OVER = object()

Read = Callable[[Query, list[FieldNode]], str]
"""Answers a field that reads a table, with JSON text."""


@dataclass
class Result:
    """What came of an order: JSON text by root field, or None for all of it, and the errors by root field."""

    data: dict[str, str] | None = field(default_factory=dict)
    errors: list[tuple[str, Exception]] = field(default_factory=list)

    def add(self, name: str, text: str) -> None:
        """Note the JSON of a root field."""
        if self.data is not None:
            self.data[name] = text

    def fail(self, name: str, error: Exception, *, is_never_null: bool = False) -> None:
        """Note that a root field failed: it is null, or everything is where it cannot be."""
        self.errors.append((name, error))
        if is_never_null:
            self.data = None
        self.add(name, "null")


class Executor:
    """Does orders. It has no state of its own."""

    def __init__(self, schema: GraphQLSchema, queries: Mapping[str, Handler], mutations: Mapping[str, Handler]) -> None:
        """Given who answers which operation besides the tables' queries."""
        self._schema = schema
        self._queries = queries
        self._mutations = mutations
        self._reads = _table_reads()

    def execute(self, order: Order, request: Request) -> Result:
        """Do an order within its transaction. What fails is an error of its field, and null there.

        Raise OutOfTimeError if a read takes longer than it was given.
        """
        result = Result()
        for name in order.fields:
            self.execute_field(name, order, request, result)
            if result.data is None:
                break
        return result

    def execute_field(self, name: str, order: Order, request: Request, result: Result) -> None:
        """Do one field of an order and add what came of it to the result."""
        for _ in self.steps(name, order, request, result):
            pass

    def steps(self, name: str, order: Order, request: Request, result: Result) -> Iterator[None]:
        """Do one field in steps, after each of which others may have their turn."""
        root = self._schema.get_root_type(order.operation.operation)
        assert root is not None
        nodes = order.fields[name]
        try:
            text = yield from self._field(root, nodes, order, request)
        except OutOfTimeError:
            raise
        except Exception as error:
            # Every other field is to have its answer all the same.
            is_never_null = name[:2] != "__" and is_non_null_type(root.fields[nodes[0].name.value].type)
            result.fail(name, error, is_never_null=is_never_null)
        else:
            result.add(name, text)

    def _field(
        self, root: GraphQLObjectType, nodes: list[FieldNode], order: Order, request: Request
    ) -> Generator[None, None, str]:
        name = nodes[0].name.value
        if name in self._reads:
            return self._reads[name](Query(request.reads, order.reader), nodes)
        if name == "__typename":
            return json.dumps(root.name)
        if name.startswith("__"):
            return self._introspected(nodes, order)
        given = get_argument_values(root.fields[name], nodes[0], order.values)
        found = yield from self._operation(name, given, request)
        return to_json(_shaped(found, root.fields[name].type, nodes, order.reader))

    def _operation(self, name: str, given: dict[str, Any], request: Request) -> Generator[None, None, object]:
        if name in self._queries:
            return self._queries[name](request, given)
        with request.database.savepoint():
            found = self._mutations[name](request, given["input"])
        if not isinstance(found, Steps):
            return found
        while True:
            yield
            with request.database.savepoint():
                if next(found.each, _OVER) is _OVER:
                    return found.answer()

    def _introspected(self, nodes: list[FieldNode], order: Order) -> str:
        """Let graphql-core answer what it alone knows: a question about the schema itself."""
        only = OperationDefinitionNode(
            operation=order.operation.operation,
            variable_definitions=order.operation.variable_definitions,
            directives=(),
            selection_set=SelectionSetNode(selections=tuple(nodes)),
        )
        document = DocumentNode(definitions=(only, *order.reader.fragments.values()))
        found = execute_sync(self._schema, document, variable_values=dict(order.reader.variables))
        if found.errors or not found.data:
            raise found.errors[0] if found.errors else ValueError("no answer")
        return json.dumps(next(iter(found.data.values())))


def _table_reads() -> dict[str, Read]:
    reads: dict[str, Read] = {}
    for table in TABLES:
        reads[table.name] = _read(Query.rows, table)
        reads[f"{table.name}_by_pk"] = _read(Query.by_key, table)
        reads[f"{table.name}_aggregate"] = _read(Query.aggregate, table)
    return reads


def _read(method: Callable[[Query, Table, list[FieldNode]], str], table: Table) -> Read:
    return lambda query, nodes: method(query, table, nodes)


def _shaped(value: Any, kind: GraphQLOutputType, nodes: list[FieldNode], reader: Reader) -> object:  # noqa: ANN401 - JSON is of any type
    """Given what an operation returns, return of it what is selected, by the names of the answer."""
    shape = get_nullable_type(kind)
    if value is None:
        return None
    if is_list_type(shape):
        return [_shaped(each, shape.of_type, nodes, reader) for each in value]
    if not is_object_type(shape):
        return value
    return {name: _member(value, shape, same, reader) for name, same in reader.fields(nodes).items()}


def _member(value: Mapping[str, Any], kind: GraphQLObjectType, nodes: list[FieldNode], reader: Reader) -> object:
    name = nodes[0].name.value
    if name == "__typename":
        return kind.name
    return _shaped(value.get(name), kind.fields[name].type, nodes, reader)
