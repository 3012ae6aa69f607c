"""From the body of a request to what is to be done: documents parsed, validated and kept, and variables checked."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    ListTypeNode,
    NamedTypeNode,
    NonNullTypeNode,
    OperationDefinitionNode,
    OperationType,
    StringValueNode,
    TypeNode,
    Visitor,
    get_variable_values,
    parse,
    validate,
    visit,
)

from local_agent.server.bounds import costs
from local_agent.server.bounds.budget import DEFAULT, Budget
from local_agent.server.bounds.costs import TooCostlyError
from local_agent.server.graphql import arguments, literals
from local_agent.server.input import json_text

# A document takes about 60 times its text in memory. Those of Prefect and this agent have 15 kB between them.
_CACHED_CHARACTERS = 128 * 1024
_MAX_CACHED_CHARACTERS = 16 * 1024

# More would help nobody, and each takes time.
_MAX_ERRORS = 20

_NESTED = "The query is nested too deeply"


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


@dataclass
class Pace:
    """How long the last answer to a document took to be read; infinity if it was stopped, None if there was none."""

    seconds: float | None = None


@dataclass(frozen=True)
class Prepared:
    """A document that is parsed and valid."""

    operations: Mapping[str, OperationDefinitionNode]
    fragments: Mapping[str, FragmentDefinitionNode]
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True)
class Order:
    """One operation to do. `values` are the variables as graphql-core wants them; `reader` has them as they came.

    `fields` are the root fields by the name they have in the answer.
    """

    operation: OperationDefinitionNode
    reader: arguments.Reader
    values: Any
    fields: Mapping[str, list[FieldNode]]
    pace: Pace = field(default_factory=Pace)

    @property
    def writes(self) -> bool:
        """Whether it may change anything."""
        return self.operation.operation is OperationType.MUTATION

    @property
    def is_about_schema(self) -> bool:
        """Whether it asks for the schema itself, which only Python can answer."""
        return any(name in ("__schema", "__type") for name in self.names)

    @property
    def names(self) -> list[str]:
        """What is asked for, field by field."""
        return [same[0].name.value for same in self.fields.values()]


def error_object(message: str, code: str) -> dict[str, Any]:
    """Return a GraphQL error."""
    return {"message": message, "extensions": {"code": code}}


def _bad(message: str, code: str = "BAD_USER_INPUT") -> BadRequestError:
    return BadRequestError([error_object(message, code)])


def _too_costly(error: TooCostlyError) -> BadRequestError:
    return _bad(str(error), "TOO_COSTLY")


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
        except json_text.RefusedJsonError as error:
            raise _bad(f"Variables are invalid JSON: {error}") from None
    if not isinstance(variables, dict | None):
        raise _bad("Variables must be an object.")
    name = body.get("operationName")
    return body["query"], variables or {}, name if isinstance(name, str) and name else None


class _Cache:
    """Documents that were prepared, the latest used last, bounded by the length of their texts. Safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prepared: OrderedDict[str, Prepared | None] = OrderedDict()
        self._characters = 0

    def get(self, query: str) -> tuple[bool, Prepared | None]:
        """Return whether a document is here, and what it was prepared to."""
        with self._lock:
            if query not in self._prepared:
                return False, None
            self._prepared.move_to_end(query)
            return True, self._prepared[query]

    def put(self, query: str, prepared: Prepared | None) -> None:
        """Keep a document, unless it is large, instead of those not used for longest."""
        if len(query) > _MAX_CACHED_CHARACTERS:
            return
        with self._lock:
            if query not in self._prepared:
                self._characters += len(query)
            self._prepared[query] = prepared
            while self._characters > _CACHED_CHARACTERS:
                first, _ = self._prepared.popitem(last=False)
                self._characters -= len(first)


class Documents:
    """Understands requests. Safe to use from several threads, none of which waits for another."""

    def __init__(self, schema: GraphQLSchema, budget: Budget = DEFAULT) -> None:
        self._schema = schema
        self._budget = budget
        self._cache = _Cache()

    def knows(self, query: str) -> bool:
        """Say whether a document was understood before, but for the texts in it. BadRequestError for a large one."""
        try:
            costs.check_text(query, self._budget)
        except TooCostlyError as error:
            raise _too_costly(error) from None
        return self._cache.get(literals.lift(query)[0])[0]

    def understand(self, query: str, variables: Mapping[str, Any], operation_name: str | None) -> Order:
        """Return what a request wants. Raise BadRequestError or WrongVariablesError."""
        try:
            return self._understand(query, variables, operation_name)
        except TooCostlyError as error:
            raise _too_costly(error) from None

    def _understand(self, query: str, variables: Mapping[str, Any], operation_name: str | None) -> Order:
        lifted, values = literals.lift(query)
        prepared = self._prepare(lifted, self._parse_lifted) if values else None
        if prepared is not None:
            try:
                return self._order(prepared, {**variables, **values}, operation_name)
            except WrongVariablesError:
                pass  # what is wrong is said in the document's own terms below
        plain = self._prepare(query, self._parse)
        assert plain is not None
        return self._order(plain, variables, operation_name)

    def _order(self, prepared: Prepared, variables: Mapping[str, Any], operation_name: str | None) -> Order:
        operation = _chosen(prepared, operation_name)
        definitions = operation.variable_definitions or ()
        for each in definitions:
            if _type_name(each.type).endswith("_bool_exp"):
                costs.check_filter(variables.get(each.variable.name.value), self._budget)
        try:
            values = get_variable_values(self._schema, definitions, dict(variables), max_errors=_MAX_ERRORS)
        except RecursionError:
            raise _bad("Variables are nested too deeply") from None
        if isinstance(values, list):
            raise WrongVariablesError(values)
        reader = arguments.reader(operation, prepared.fragments, variables)
        return Order(operation, reader, values, reader.fields([operation]), prepared.pace)

    def _prepare(self, query: str, parsed: Callable[[str], Prepared | None]) -> Prepared | None:
        """Parse and validate a document, or take it from those that were before. Raise BadRequestError.

        Return None for a lifted one that is to be taken as it came.
        """
        known, prepared = self._cache.get(query)
        if not known:
            prepared = parsed(query)
            self._cache.put(query, prepared)
        return prepared

    def _parse_lifted(self, query: str) -> Prepared | None:
        try:
            document = _with_clean_texts(query, parse(query, no_location=True))
            costs.check_document(document, self._budget)
            declared = literals.declare(document, self._schema)
        except (GraphQLError, RecursionError):
            return None
        return None if declared is None or validate(self._schema, declared) else _prepared(declared)

    def _parse(self, query: str) -> Prepared:
        try:
            # Without locations: they keep every token of the text in memory.
            document = _with_clean_texts(query, parse(query, no_location=True))
            costs.check_document(document, self._budget)
            self._check(query, document)
        except GraphQLError as error:
            raise _bad(error.message, "GRAPHQL_PARSE_FAILED") from None
        except RecursionError:
            raise _bad(_NESTED, "GRAPHQL_PARSE_FAILED") from None
        return _prepared(document)

    def _check(self, query: str, document: DocumentNode) -> None:
        unknown = _unknown_operations(document, self._schema)[:_MAX_ERRORS]
        if unknown:
            raise BadRequestError([error_object(message, "GRAPHQL_VALIDATION_FAILED") for message in unknown])
        if validate(self._schema, document, max_errors=_MAX_ERRORS):
            # Once more, for the places of what is wrong.
            errors = validate(self._schema, parse(query), max_errors=_MAX_ERRORS)
            raise BadRequestError([_invalid(error) for error in errors])


class _Cleaner(Visitor):
    def enter_string_value(self, node: StringValueNode, *_where: object) -> StringValueNode:
        return StringValueNode(value=json_text.cleaned(node.value))


def _with_clean_texts(query: str, document: DocumentNode) -> DocumentNode:
    """Replace what SQLite cannot keep in texts that are written with escapes (backslash u0000)."""
    cleaned: DocumentNode = visit(document, _Cleaner()) if "\\u" in query else document
    return cleaned


def _type_name(node: TypeNode) -> str:
    while isinstance(node, ListTypeNode | NonNullTypeNode):
        node = node.type
    assert isinstance(node, NamedTypeNode)
    return node.name.value


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
