"""GraphQL: from the text of a request to the answer's JSON, with errors in the shape of the real API."""

from __future__ import annotations

import sqlite3
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    execute_sync,
    parse,
    validate,
)

from local_agent.server import arguments, json_text, mutations, schema
from local_agent.server.auth import Keys, Unauthenticated
from local_agent.server.database import Database, RefusedError
from local_agent.server.locks import ExpiringSet
from local_agent.server.request import Request
from local_agent.server.stats import Stats

_CACHED_DOCUMENTS = 256
_MOST_CACHED_CHARACTERS = 100_000


class BadRequestError(Exception):
    """A request that is not understood: HTTP 400. Holds the GraphQL errors to answer with."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors[0]["message"])
        self.errors = errors


@cache
def the_schema() -> GraphQLSchema:
    """Return the schema of the API. It is built at the first call, and the same for every engine."""
    return schema.build(mutations.QUERIES, mutations.MUTATIONS)


@dataclass(frozen=True)
class Prepared:
    """A document that is parsed and valid."""

    document: DocumentNode
    operations: Mapping[str, OperationDefinitionNode]
    fragments: Mapping[str, FragmentDefinitionNode]


@dataclass(frozen=True)
class Answer:
    """What goes back: an HTTP status and a JSON body."""

    status: int
    body: dict[str, Any]


class Engine:
    """Answers requests, one after another."""

    def __init__(
        self, database: Database, *, submit_lock: ExpiringSet, keys: Keys, stats: Stats, say: Callable[[str], None]
    ) -> None:
        self._database = database
        self._submit_lock = submit_lock
        self._keys = keys
        self._stats = stats
        self._say = say
        self._schema = the_schema()
        self._prepared: OrderedDict[str, Prepared] = OrderedDict()
        self._preparing = threading.Lock()

    def answer(self, body: object, headers: Mapping[str, str]) -> Answer:
        """Given the JSON of a request and its headers (names in lower case), do it and return the answer."""
        try:
            query, variables, operation_name = parse_body(body)
            self._keys.check_key(headers)
            prepared = self.prepare(query)
            operation = chosen(prepared, operation_name)
            return Answer(200, self._execute(prepared, operation, variables, headers))
        except BadRequestError as error:
            self._stats.count(headers, [])
            return Answer(400, {"errors": error.errors})
        except Unauthenticated as error:
            # Cloud says this with status 200; Prefect looks for the word in the text.
            self._stats.count(headers, [])
            return Answer(200, {"errors": [error_object(str(error), "UNAUTHENTICATED")], "data": None})
        except sqlite3.Error as error:
            # Nothing of the request was kept: the client may ask again, and urllib3 in Prefect does so by itself.
            self._say(f"error: the data file cannot be used: {error}")
            return Answer(500, {"errors": [error_object(f"The data file cannot be used: {error}", "API_ERROR")]})

    def prepare(self, query: str) -> Prepared:
        """Parse and validate a document, or take it from those that were before. Raise BadRequestError."""
        with self._preparing:
            prepared = self._prepared.get(query)
            if prepared is None:
                prepared = _parse(query, self._schema)
                if len(query) > _MOST_CACHED_CHARACTERS:
                    return prepared
                self._prepared[query] = prepared
            self._prepared.move_to_end(query)
            if len(self._prepared) > _CACHED_DOCUMENTS:
                self._prepared.popitem(last=False)
            return prepared

    def _execute(
        self,
        prepared: Prepared,
        operation: OperationDefinitionNode,
        variables: dict[str, Any],
        headers: Mapping[str, str],
    ) -> dict[str, Any]:
        reader = arguments.reader(operation, prepared.fragments, variables)
        self._stats.count(headers, [same[0].name.value for same in reader.fields([operation]).values()])
        request = Request(
            database=self._database,
            submit_lock=self._submit_lock,
            say=self._say,
            headers=headers,
            variables=variables,
            keyed=self._keys.required,
        )
        with self._database.transaction(writes=operation.operation is OperationType.MUTATION):
            self._keys.check_tenant(headers, self._database)
            result = execute_sync(
                self._schema,
                prepared.document,
                context_value=request,
                variable_values=variables,
                operation_name=operation.name.value if operation.name else None,
            )
        body: dict[str, Any] = {"data": result.data}
        if result.errors:
            body["errors"] = [self._explain(error) for error in result.errors]
        return body

    def _explain(self, error: GraphQLError) -> dict[str, Any]:
        cause = error.original_error
        if isinstance(cause, RefusedError):
            return _formatted(error, error.message, cause.detail)
        if cause is None or isinstance(cause, GraphQLError):
            return _formatted(error, error.message)
        if isinstance(cause, sqlite3.IntegrityError):
            return _formatted(error, f"The request names something that does not exist, or exists twice: {cause}")
        if isinstance(cause, sqlite3.Error):
            self._say(f"error: the data file cannot be used: {cause}")
            return _formatted(error, f"The data file cannot be used: {cause}")
        self._say("error: a request failed by a fault of this API\n" + "".join(traceback.format_exception(cause)))
        return _formatted(error, f"{type(cause).__name__}: {cause}")


def _formatted(error: GraphQLError, message: str, detail: str = "") -> dict[str, Any]:
    found = error_object(message, "INTERNAL_SERVER_ERROR")
    if detail:
        found["extensions"]["detail"] = detail
    if error.path is not None:
        found["path"] = list(error.path)
    return found


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


def chosen(prepared: Prepared, name: str | None) -> OperationDefinitionNode:
    """Return the operation of a document that is to be done. Raise BadRequestError if that is not one."""
    operations = prepared.operations
    if name is None and len(operations) == 1:
        return next(iter(operations.values()))
    if name is None:
        raise _bad("Must provide operation name if query contains multiple operations.")
    if name not in operations:
        raise _bad(f'Unknown operation named "{name}".')
    return operations[name]


def _parse(query: str, graphql_schema: GraphQLSchema) -> Prepared:
    try:
        document = parse(query)
    except GraphQLError as error:
        raise _bad(error.message, "GRAPHQL_PARSE_FAILED") from None
    except RecursionError:
        raise _bad("The query is nested too deeply", "GRAPHQL_PARSE_FAILED") from None
    unknown = list(_unknown_operations(document, graphql_schema))
    if unknown:
        raise BadRequestError([error_object(message, "GRAPHQL_VALIDATION_FAILED") for message in unknown])
    errors = validate(graphql_schema, document)
    if errors:
        raise BadRequestError([_invalid(error) for error in errors])
    operations = {
        node.name.value if node.name else "": node
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode)
    }
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    return Prepared(document, operations, fragments)


def _invalid(error: GraphQLError) -> dict[str, Any]:
    found = error_object(error.message, "GRAPHQL_VALIDATION_FAILED")
    if error.locations:
        found["locations"] = [location.formatted for location in error.locations]
    return found


def _unknown_operations(document: DocumentNode, graphql_schema: GraphQLSchema) -> list[str]:
    """Say first and plainly which operations are not there: the validation's own words drown it in others."""
    found = []
    for definition in document.definitions:
        if not isinstance(definition, OperationDefinitionNode):
            continue
        root = graphql_schema.get_root_type(definition.operation)
        known = root.fields if root else {}
        found += [
            f"This API has no {definition.operation.value} '{node.name.value}'"
            for node in definition.selection_set.selections
            if isinstance(node, FieldNode) and node.name.value not in known and node.name.value[:2] != "__"
        ]
    return found
