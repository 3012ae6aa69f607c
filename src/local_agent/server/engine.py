"""GraphQL: from the text of a request to the answer's JSON, with errors in the shape of the real API."""

from __future__ import annotations

import json
import sqlite3
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from graphql import GraphQLError, GraphQLSchema

from local_agent.server import mutations, schema
from local_agent.server.auth import Keys, Unauthenticated
from local_agent.server.database import Database
from local_agent.server.documents import (
    BadRequestError,
    Documents,
    Order,
    WrongVariablesError,
    error_object,
    parse_body,
)
from local_agent.server.execution import Executor, Result
from local_agent.server.locks import ExpiringSet
from local_agent.server.refusals import RefusedError
from local_agent.server.request import Request
from local_agent.server.stats import Stats


@cache
def the_schema() -> GraphQLSchema:
    """Return the schema of the API. It is built at the first call, and the same for every engine."""
    return schema.build()


@dataclass(frozen=True)
class Answer:
    """What goes back: an HTTP status and a body, which is JSON."""

    status: int
    body: str


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
        self._documents = Documents(the_schema())
        self._executor = Executor(the_schema(), mutations.QUERIES, mutations.MUTATIONS)

    def answer(self, body: object, headers: Mapping[str, str]) -> Answer:
        """Given the JSON of a request and its headers (names in lower case), do it and return the answer."""
        try:
            query, variables, operation_name = parse_body(body)
            self._keys.check_key(headers)
            order = self._documents.understand(query, variables, operation_name)
            self._stats.count(headers, order.names)
            return Answer(200, self._do(order, headers))
        except BadRequestError as error:
            self._stats.count(headers, [])
            return _failed(400, error.errors)
        except WrongVariablesError as error:
            self._stats.count(headers, [])
            return Answer(200, _body(None, [_formatted(each.message) for each in error.errors]))
        except Unauthenticated as error:
            # Cloud says this with status 200; Prefect looks for the word in the text.
            self._stats.count(headers, [])
            return Answer(200, _body(None, [error_object(str(error), "UNAUTHENTICATED")]))
        except sqlite3.Error as error:
            # Nothing of the request was kept: the client may ask again, and urllib3 in Prefect does so by itself.
            self._say(f"error: the data file cannot be used: {error}")
            return _failed(500, [error_object(f"The data file cannot be used: {error}", "API_ERROR")])

    def _do(self, order: Order, headers: Mapping[str, str]) -> str:
        request = Request(
            database=self._database,
            submit_lock=self._submit_lock,
            say=self._say,
            headers=headers,
            keyed=self._keys.required,
        )
        with self._database.transaction(writes=order.writes):
            self._keys.check_tenant(headers, self._database)
            result = self._executor.execute(order, request)
        return _body(result.data, self._explained(result))

    def _explained(self, result: Result) -> list[dict[str, Any]]:
        return [{**self._explain(error), "path": [name]} for name, error in result.errors]

    def _explain(self, error: Exception) -> dict[str, Any]:
        if isinstance(error, RefusedError):
            return _formatted(str(error), error.detail)
        if isinstance(error, GraphQLError):
            return _formatted(error.message)
        # Deeper than SQLite's parser, or Python, goes: that is no fault of the data file or of this API.
        if isinstance(error, RecursionError) or "parser stack overflow" in str(error):
            return _formatted("The query is nested too deeply")
        if isinstance(error, sqlite3.IntegrityError):
            return _formatted(f"The request names something that does not exist, or exists twice: {error}")
        if isinstance(error, sqlite3.Error):
            self._say(f"error: the data file cannot be used: {error}")
            return _formatted(f"The data file cannot be used: {error}")
        self._say("error: a request failed by a fault of this API\n" + "".join(traceback.format_exception(error)))
        return _formatted(f"{type(error).__name__}: {error}")


def _body(data: Mapping[str, str] | None, errors: list[dict[str, Any]]) -> str:
    """Return the JSON of an answer, given the JSON of its root fields."""
    fields = "null" if data is None else "{" + ",".join(f'"{name}":{text}' for name, text in data.items()) + "}"
    return f'{{"data":{fields},"errors":{json.dumps(errors)}}}' if errors else f'{{"data":{fields}}}'


def _failed(status: int, errors: list[dict[str, Any]]) -> Answer:
    return Answer(status, json.dumps({"errors": errors}))


def _formatted(message: str, detail: str = "") -> dict[str, Any]:
    found = error_object(message, "INTERNAL_SERVER_ERROR")
    if detail:
        found["extensions"]["detail"] = detail
    return found
