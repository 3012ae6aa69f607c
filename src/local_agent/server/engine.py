"""GraphQL: from the text of a request to the answer's JSON, with errors in the shape of the real API."""

from __future__ import annotations

import json
import sqlite3
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from graphql import GraphQLError, GraphQLSchema

from local_agent.server import json_text, mutations, schema
from local_agent.server.auth import Keys, Unauthenticated
from local_agent.server.budget import DEFAULT, Budget
from local_agent.server.costs import TooCostlyError
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
from local_agent.server.json_text import shortened
from local_agent.server.locks import ExpiringSet
from local_agent.server.reads import Reads
from local_agent.server.refusals import LostTransactionError, OutOfTimeError, RefusedError, TooLargeError
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


# How SQLite says that a statement is more than it takes.
_TOO_COMPLEX = (
    "parser stack overflow",
    "Expression tree is too large",
    "too many SQL variables",
    "too many terms in compound",
    "at most 64 tables",
    "too many references",
    "too many levels",
    "too many columns",
)


class Engine:
    """Answers requests. Safe to use from several threads; each waits where a commit or another's turn is waited for."""

    def __init__(
        self,
        database: Database,
        *,
        submit_lock: ExpiringSet,
        keys: Keys,
        stats: Stats,
        say: Callable[[str], None],
        budget: Budget = DEFAULT,
    ) -> None:
        self._database = database
        self._submit_lock = submit_lock
        self._keys = keys
        self._stats = stats
        self._say = say
        self._budget = budget
        self._documents = Documents(the_schema(), budget)
        self._executor = Executor(the_schema(), mutations.QUERIES, mutations.MUTATIONS)

    def answer_text(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Given the body of a request and its headers (names in lower case), do it and return the answer.

        It never raises: whatever a client sends has an answer, within the budget's seconds and a little more.
        """
        try:
            parsed = json_text.parse(body)
        except json_text.RefusedJsonError as error:
            return _failed(400, [error_object(f"The body is not JSON: {error}", "BAD_REQUEST")])
        return self.answer(parsed, headers)

    def answer(self, body: object, headers: Mapping[str, str]) -> Answer:
        """The same, given the body's JSON as json_text.parse returns it."""
        names: list[str] = []
        try:
            query, variables, operation_name = parse_body(body)
            self._keys.check_key(headers)
            order = self._documents.understand(query, variables, operation_name)
            names = order.names
            return Answer(200, self._do(order, headers))
        except BadRequestError as error:
            return _failed(400, error.errors)
        except WrongVariablesError as error:
            return Answer(200, _body(None, [_formatted(shortened(each.message)) for each in error.errors]))
        except Unauthenticated as error:
            # Cloud says this with status 200; Prefect looks for the word in the text.
            return Answer(200, _body(None, [error_object(str(error), "UNAUTHENTICATED")]))
        except TooCostlyError as error:
            return Answer(200, _body(None, [error_object(str(error), "TOO_COSTLY")]))
        except sqlite3.Error as error:
            # Nothing of the request was kept: the client may ask again, and urllib3 in Prefect does so by itself.
            self._say(f"error: the data file cannot be used: {error}")
            return _failed(500, [error_object(f"The data file cannot be used: {error}", "API_ERROR")])
        except Exception as error:
            self._say("error: a request failed by a fault of this API\n" + "".join(traceback.format_exception(error)))
            return _failed(500, [error_object(f"A fault of this API: {type(error).__name__}", "INTERNAL_SERVER_ERROR")])
        finally:
            self._stats.count(headers, names)

    def _do(self, order: Order, headers: Mapping[str, str]) -> str:
        result = self._write(order, headers) if order.writes else self._read(order, headers)
        return _body(result.data, self._explained(result))

    def _request(self, headers: Mapping[str, str], reads: Reads) -> Request:
        return Request(
            database=self._database,
            reads=reads,
            submit_lock=self._submit_lock,
            say=self._say,
            headers=headers,
            keyed=self._keys.required,
        )

    def _read(self, order: Order, headers: Mapping[str, str]) -> Result:
        begun = time.monotonic()
        if order.pace.is_short or (order.pace.is_short is None and not self._database.long_lane.is_busy):
            try:
                with self._database.transaction(writes=False), self._database.within(self._budget.short_seconds):
                    return self._read_from(self._database, order, headers)
            except OutOfTimeError:
                order.pace.is_short = False
        try:
            left = self._budget.seconds - (time.monotonic() - begun)
            return self._database.long_lane.read(lambda reads: self._read_from(reads, order, headers), left)
        except OutOfTimeError:
            seconds = self._budget.seconds
            raise TooCostlyError(f"The query takes more than {seconds} s: ask for fewer rows, or less deep") from None

    def _read_from(self, reads: Reads, order: Order, headers: Mapping[str, str]) -> Result:
        begun = time.monotonic()
        self._keys.check_tenant(headers, reads)
        result = self._executor.execute(order, self._request(headers, reads))
        order.pace.is_short = time.monotonic() - begun < self._budget.short_seconds / 2
        return result

    def _write(self, order: Order, headers: Mapping[str, str]) -> Result:
        """Do mutations, each by itself: where others wait, they get their turn between two of them."""
        result = Result()
        rest = deque(order.fields)
        until = time.thread_time() + self._budget.write_seconds
        request = self._request(headers, self._database)
        while rest:
            done: list[str] = []
            try:
                with self._database.transaction(writes=True):
                    self._keys.check_tenant(headers, self._database)
                    self._write_some(rest, done, order, request, result, until)
            except LostTransactionError as error:
                if len(done) + len(rest) == len(order.fields):
                    raise
                # What came before is kept, so it must not be asked for again: the rest is what failed.
                for name in (*done, *rest):
                    result.fail(name, error)
                break
        return result

    def _write_some(
        self, rest: deque[str], done: list[str], order: Order, request: Request, result: Result, until: float
    ) -> None:
        turn_ends = time.monotonic() + self._budget.turn_seconds
        while rest:
            name = rest.popleft()
            done.append(name)
            if time.thread_time() > until:
                most = self._budget.write_seconds
                result.fail(name, TooLargeError(f"The mutations before this one took more than {most} s"))
            else:
                self._executor.execute_field(name, order, request, result)
            if self._database.waiting and time.monotonic() > turn_ends:
                return

    def _explained(self, result: Result) -> list[dict[str, Any]]:
        return [{**self._explain(error), "path": [name]} for name, error in result.errors]

    def _explain(self, error: Exception) -> dict[str, Any]:
        if isinstance(error, RefusedError):
            return _formatted(str(error), error.detail)
        if isinstance(error, GraphQLError):
            return _formatted(error.message)
        # Deeper, or wider, than SQLite's parser or Python goes: that is no fault of the data file or of this API.
        if isinstance(error, RecursionError) or any(each in str(error) for each in _TOO_COMPLEX):
            return _formatted("The request is nested too deeply, or asks for too much at once")
        if isinstance(error, OverflowError | sqlite3.InterfaceError | sqlite3.ProgrammingError):
            return _formatted(f"A value of the request does not fit: {shortened(str(error))}")
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
