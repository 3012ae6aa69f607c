"""From the body of a request to what is to be done: documents parsed, validated and kept, and variables checked."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    get_variable_values,
    parse,
    validate,
)

from local_agent.server import arguments, json_text, literals

_CACHED_DOCUMENTS = 256
_MOST_CACHED_CHARACTERS = 100_000


class BadRequestError(Exception):
    """A request that is not understood: HTTP 400. Holds the GraphQL errors to answer with."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors[0]["message"])
        self.errors = errors


class WrongVariablesError(Exception):
    """Variables that do not fit their declarations. Holds what is wrong with them."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__(errors[0].message)
        self.errors = errors


@dataclass(frozen=True)
class Prepared:
    """A document that is parsed and valid."""

    operations: Mapping[str, OperationDefinitionNode]
    fragments: Mapping[str, FragmentDefinitionNode]


@dataclass(frozen=True)
class Order:
    """One operation to do. `values` are the variables as graphql-core wants them; `reader` has them as they came.

    `fields` are the root fields by the name they have in the answer.
    """

    operation: OperationDefinitionNode
    reader: arguments.Reader
    values: Any
    fields: Mapping[str, list[FieldNode]]

    @property
    def writes(self) -> bool:
        """Whether it may change anything."""
        return self.operation.operation is OperationType.MUTATION

    @property
    def names(self) -> list[str]:
        """What is asked for, field by field."""
        return [same[0].name.value for same in self.fields.values()]


def error_object(message: str, code: str) -> dict[str, Any]:
    """Return a GraphQL error."""
    return {"message": message, "extensions": {"code": code}}


def _bad(message: str, code: str = "BAD_USER_INPUT") -> BadRequestError:
    return BadRequestError([error_object(message, code)])


def parse_body(body: object) -> tuple[str, dict[str, Any], str | None]:
    """Return query, variables and operation name of a request's body. Raise BadRequestError.

    Prefect sends its variables as text that holds JSON ("null" for none); others send an object, null, or nothing.
    """
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        raise _bad('Expected a JSON object with a "query"')
    variables = body.get("variables")
    if isinstance(variables, str):
        try:
            variables = json_text.parse(variables or "null")
        except ValueError:
            raise _bad("Variables are invalid JSON.") from None
    if not isinstance(variables, dict | None):
        raise _bad("Variables must be an object.")
    name = body.get("operationName")
    return body["query"], variables or {}, name if isinstance(name, str) and name else None


class Documents:
    """Understands requests. Safe to use from several threads."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._prepared: OrderedDict[str, Prepared | None] = OrderedDict()
        self._preparing = threading.Lock()

    def understand(self, query: str, variables: Mapping[str, Any], operation_name: str | None) -> Order:
        """Return what a request wants. Raise BadRequestError or WrongVariablesError."""
        lifted, values = literals.lift(query)
        prepared = self._prepare(lifted, lifted=True) if values else None
        if prepared is not None:
            try:
                return self._order(prepared, {**variables, **values}, operation_name)
            except WrongVariablesError:
                pass  # what is wrong is said in the document's own terms below
        return self._order(self._prepare_plain(query), variables, operation_name)

    def _order(self, prepared: Prepared, variables: Mapping[str, Any], operation_name: str | None) -> Order:
        operation = _chosen(prepared, operation_name)
        values = get_variable_values(self._schema, operation.variable_definitions or (), dict(variables))
        if isinstance(values, list):
            raise WrongVariablesError(values)
        reader = arguments.reader(operation, prepared.fragments, variables)
        return Order(operation, reader, values, reader.fields([operation]))

    def _prepare_plain(self, query: str) -> Prepared:
        prepared = self._prepare(query, lifted=False)
        assert prepared is not None
        return prepared

    def _prepare(self, query: str, *, lifted: bool) -> Prepared | None:
        """Parse and validate a document, or take it from those that were before. Raise BadRequestError.

        Return None for a lifted one that is to be taken as it came.
        """
        with self._preparing:
            if query in self._prepared:
                self._prepared.move_to_end(query)
                return self._prepared[query]
            prepared = _parse_lifted(query, self._schema) if lifted else _parse(query, self._schema)
            if len(query) <= _MOST_CACHED_CHARACTERS:
                self._prepared[query] = prepared
            if len(self._prepared) > _CACHED_DOCUMENTS:
                self._prepared.popitem(last=False)
            return prepared


def _chosen(prepared: Prepared, name: str | None) -> OperationDefinitionNode:
    """Return the operation of a document that is to be done. Raise BadRequestError if that is not one."""
    operations = prepared.operations
    if name is None and len(operations) == 1:
        return next(iter(operations.values()))
    if name is None:
        raise _bad("Must provide operation name if query contains multiple operations.")
    if name not in operations:
        raise _bad(f'Unknown operation named "{name}".')
    return operations[name]


def _parse_lifted(query: str, schema: GraphQLSchema) -> Prepared | None:
    try:
        document = literals.declare(parse(query), schema)
    except (GraphQLError, RecursionError):
        return None
    return None if document is None or validate(schema, document) else _prepared(document)


def _parse(query: str, schema: GraphQLSchema) -> Prepared:
    try:
        document = parse(query)
    except GraphQLError as error:
        raise _bad(error.message, "GRAPHQL_PARSE_FAILED") from None
    except RecursionError:
        raise _bad("The query is nested too deeply", "GRAPHQL_PARSE_FAILED") from None
    unknown = list(_unknown_operations(document, schema))
    if unknown:
        raise BadRequestError([error_object(message, "GRAPHQL_VALIDATION_FAILED") for message in unknown])
    errors = validate(schema, document)
    if errors:
        raise BadRequestError([_invalid(error) for error in errors])
    return _prepared(document)


def _prepared(document: DocumentNode) -> Prepared:
    operations = {
        node.name.value if node.name else "": node
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode)
    }
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    return Prepared(operations, fragments)


def _invalid(error: GraphQLError) -> dict[str, Any]:
    found = error_object(error.message, "GRAPHQL_VALIDATION_FAILED")
    if error.locations:
        found["locations"] = [location.formatted for location in error.locations]
    return found


def _unknown_operations(document: DocumentNode, schema: GraphQLSchema) -> list[str]:
    """Say first and plainly which operations are not there: the validation's own words drown it in others."""
    found = []
    for definition in document.definitions:
        if not isinstance(definition, OperationDefinitionNode):
            continue
        root = schema.get_root_type(definition.operation)
        known = root.fields if root else {}
        found += [
            f"This API has no {definition.operation.value} '{node.name.value}'"
            for node in definition.selection_set.selections
            if isinstance(node, FieldNode) and node.name.value not in known and node.name.value[:2] != "__"
        ]
    return found
