"""GraphQL: from the text of a request to the answer's JSON, with errors in the shape of the real API."""

from __future__ import annotations

import json
import sqlite3
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cache
from typing import Any

from graphql import GraphQLError, GraphQLSchema

from local_agent.server.asking.auth import Keys, Unauthenticated
from local_agent.server.asking.request import Asked, Request
from local_agent.server.asking.stats import Stats
from local_agent.server.bounds.budget import DEFAULT, Budget
from local_agent.server.bounds.costs import TooCostlyError
from local_agent.server.bounds.gate import Allowance, Gate
from local_agent.server.data.database import Database
from local_agent.server.data.locks import ExpiringSet
from local_agent.server.data.reads import Reads
from local_agent.server.graphql import schema
from local_agent.server.graphql.documents import (
    BadRequestError,
    Documents,
    Order,
    WrongVariablesError,
    error_object,
    parse_body,
)
from local_agent.server.graphql.execution import Executor, Result
from local_agent.server.input import json_text
from local_agent.server.input.json_text import shortened
from local_agent.server.input.refusals import OutOfTimeError, RefusedError, TooLargeError
from local_agent.server.operations import registry


@cache
def the_schema() -> GraphQLSchema:
    """Return the schema of the API. It is built at the first call, and the same for every engine."""
    return schema.build()


@dataclass(frozen=True)
class Answer:
    """What goes back: an HTTP status and a body, which is JSON."""

    status: int
    body: str


class Next(Enum):
    """What is to be done with a request that has no answer yet."""

    SLOWLY = auto()  # in a thread, by `answer_slowly`
    AGAIN = auto()  # by `answer_all`, when others had their turn


class _SlowError(Exception):
    """A request that would hold up the others."""


@dataclass
class _Job:
    """A request that is understood, and how far it is: which fields are to be done, done, and kept on disk."""

    order: Order
    rest: deque[str]
    done: list[str] = field(default_factory=list)
    kept: int = 0
    result: Result = field(default_factory=Result)
    spent_seconds: float = 0.0
    # of the first of `rest`, if that was begun
    steps: Iterator[None] | None = None


_OVER = object()

# However many come together, the first of them gets its answer soon.
_MAX_SECONDS_BEFORE_COMMIT = 0.05

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
    """Answers requests."""

    def __init__(
        self,
        database: Database,
        *,
        submit_lock: ExpiringSet,
        keys: Keys,
        stats: Stats,
        say: Callable[[str], None],
        budget: Budget = DEFAULT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._submit_lock = submit_lock
        self._keys = keys
        self._stats = stats
        self._say = say
        self._budget = budget
        self._monotonic = monotonic
        # Those who wrote or may have read what is not committed yet, by their places among the answers of now.
        self._uncommitted: dict[int, Asked] = {}
        self._gate = Gate(budget.seconds)
        self._new = Allowance(budget.new_share, budget.new_seconds)
        self._documents = Documents(the_schema(), budget)
        self._executor = Executor(the_schema(), registry.QUERIES, registry.MUTATIONS)

    def answer_all(self, asked: Sequence[Asked]) -> list[Answer | Next]:
        """Given what came together, return the answers to the first of them, as many as there is time for.

        What they wrote is on disk then, by one commit. It never raises: whatever a client sends has an answer. Called
        by one thread.
        """
        until = self._monotonic() + _MAX_SECONDS_BEFORE_COMMIT
        turn_seconds = self._budget.turn_seconds if len(asked) > 1 else self._budget.alone_seconds
        answers: list[Answer | Next] = []
        for one in asked:
            answers.append(self._answer(one, turn_seconds))
            if self._database.is_uncommitted:
                self._uncommitted[len(answers) - 1] = one
            if self._database.is_lost:
                self._commit(answers)
            if self._monotonic() >= until:
                break
        self._commit(answers)
        return answers

    def _commit(self, answers: list[Answer | Next]) -> None:
        """Commit what was done for these answers. If it cannot be kept, say so in all that know of it."""
        try:
            self._database.commit()
        except sqlite3.Error as error:
            lost = self._unusable(error)
            for number, asked in self._uncommitted.items():
                answers[number] = self._partly(asked.progress, error) or lost
        for asked in self._uncommitted.values():
            if isinstance(asked.progress, _Job):
                asked.progress.kept = len(asked.progress.done)
        self._uncommitted.clear()

    def _partly(self, job: object, error: sqlite3.Error) -> Answer | None:
        """Return the answer to a request of which a part was kept in an earlier turn; None if nothing was.

        What was kept must not be asked for again, as it would be after a refusal of everything.
        """
        if not isinstance(job, _Job) or not job.kept:
            return None
        lost = {*job.done[job.kept :], *job.rest}
        job.result.errors = [each for each in job.result.errors if each[0] not in lost]
        for name in (*job.done[job.kept :], *job.rest):
            job.result.fail(name, error)
        return Answer(200, _body(job.result.data, self._explained(job.result)))

    def answer_slowly(self, asked: Asked) -> Answer | Next:
        """Go on with what `answer_all` has answered with Next.SLOWLY. Safe to call from several threads."""
        try:
            if not isinstance(asked.progress, _Job):
                with self._gate.turn():
                    asked.progress = self._understood(asked, slowly=True)
            job = asked.progress
            if job.order.writes:
                return Next.AGAIN
            if job.order.is_about_schema:
                with self._gate.turn():
                    return self._done(asked, job, self._read_slowly(job.order, asked.headers))
            return self._done(asked, job, self._read_slowly(job.order, asked.headers))
        except Exception as error:
            return self._failure(asked, error)

    def _answer(self, asked: Asked, turn_seconds: float) -> Answer | Next:
        """Answer in the loop, or as far as there is time for."""
        try:
            if not isinstance(asked.progress, _Job):
                asked.progress = self._understood(asked, slowly=False)
            job = asked.progress
            if not job.order.writes:
                return self._done(asked, job, self._read(job.order, asked.headers))
            self._write(job, asked.headers, turn_seconds)
            return Next.AGAIN if job.rest else self._done(asked, job, job.result)
        except _SlowError:
            return Next.SLOWLY
        except Exception as error:
            return self._failure(asked, error)

    def _done(self, asked: Asked, job: _Job, result: Result) -> Answer:
        self._stats.count(asked.headers, job.order.names)
        return Answer(200, _body(result.data, self._explained(result)))

    def _is_large(self, body: bytes) -> bool:
        # Objects take longer than their length says: 51,000 empty ones are 200 kB, and take 200 ms.
        objects = body.count(b"{") + body.count(b"[") if len(body) > self._budget.quick_body_objects else 0
        return len(body) > self._budget.quick_body_bytes or objects > self._budget.quick_body_objects

    def _understood(self, asked: Asked, *, slowly: bool) -> _Job:
        """Return what a request wants. Raise _SlowError if to find out would hold up the others."""
        if not slowly and self._is_large(asked.body):
            raise _SlowError
        query, variables, operation_name = parse_body(_parsed(asked.body))
        if not asked.is_allowed:
            self._keys.check_key(asked.headers)
        if self._documents.knows(query) or slowly:
            order = self._documents.understand(query, variables, operation_name)
        elif len(query) > self._budget.quick_document_bytes or not self._new.is_left():
            raise _SlowError
        else:
            begun = time.thread_time()
            try:
                order = self._documents.understand(query, variables, operation_name)
            finally:
                self._new.spend(time.thread_time() - begun)
        return _Job(order, deque(order.fields))

    def _failure(self, asked: Asked, error: Exception) -> Answer:
        """Return the answer to a request of which nothing was kept."""
        self._stats.count(asked.headers, [])
        if isinstance(error, BadRequestError):
            return _failed(400, error.errors)
        if isinstance(error, WrongVariablesError):
            return Answer(200, _body(None, [_formatted(shortened(each.message)) for each in error.errors]))
        if isinstance(error, Unauthenticated):
            # Cloud says this with status 200; Prefect looks for the word in the text.
            return Answer(200, _body(None, [error_object(str(error), "UNAUTHENTICATED")]))
        if isinstance(error, TooCostlyError):
            return Answer(200, _body(None, [error_object(str(error), "TOO_COSTLY")]))
        if isinstance(error, sqlite3.Error):
            return self._unusable(error)
        self._say("error: a request failed by a fault of this API\n" + "".join(traceback.format_exception(error)))
        return _failed(500, [error_object(f"A fault of this API: {type(error).__name__}", "INTERNAL_SERVER_ERROR")])

    def _unusable(self, error: sqlite3.Error) -> Answer:
        # Nothing of the request was kept: the client may ask again, and urllib3 in Prefect does so by itself.
        self._say(f"error: the data file cannot be used: {error}")
        return _failed(500, [error_object(f"The data file cannot be used: {error}", "API_ERROR")])

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
        took = order.pace.seconds
        if order.is_about_schema or (took is None and self._database.long_lane.is_busy):
            raise _SlowError
        if took is None or took < self._budget.moment_seconds:
            try:
                with self._database.transaction(writes=False), self._within_a_moment():
                    return self._read_from(self._database, order, headers)
            except OutOfTimeError:
                order.pace.seconds = float("inf")
        raise _SlowError

    def _within_a_moment(self) -> AbstractContextManager[None]:
        # Of the loop's own time: on a machine that is busy with others, every read takes long by the clock. The clock
        # bounds what waits for the disk.
        return self._database.within(10 * self._budget.short_seconds, self._budget.short_seconds)

    def _read_slowly(self, order: Order, headers: Mapping[str, str]) -> Result:
        seconds = self._budget.seconds
        is_known = order.pace.seconds is not None and order.pace.seconds < self._budget.while_seconds
        lane = self._database.middle_lane if is_known else self._database.long_lane
        try:
            return lane.read(lambda reads: self._read_from(reads, order, headers), seconds)
        except OutOfTimeError:
            order.pace.seconds = float("inf")
            raise TooCostlyError(f"The query takes more than {seconds} s: ask for fewer rows, or less deep") from None

    def _read_from(self, reads: Reads, order: Order, headers: Mapping[str, str]) -> Result:
        # The thread's own time: a machine that is busy with others makes no document a slow one.
        begun = time.thread_time()
        self._keys.check_tenant(headers, reads)
        result = self._executor.execute(order, self._request(headers, reads))
        order.pace.seconds = time.thread_time() - begun
        return result

    def _write(self, job: _Job, headers: Mapping[str, str], turn_seconds: float) -> None:
        """Do mutations, each by itself, until there are no more or the turn is over."""
        turn_ends = time.monotonic() + turn_seconds
        request = self._request(headers, self._database)
        with self._database.transaction(writes=True):
            self._keys.check_tenant(headers, self._database)
            while job.rest:
                self._write_some(job, request)
                if time.monotonic() > turn_ends:
                    return

    def _write_some(self, job: _Job, request: Request) -> None:
        """Do a mutation, or a step of one."""
        name, most = job.rest[0], self._budget.write_seconds
        if job.steps is None:
            job.steps = self._executor.steps(name, job.order, request, job.result)
            if job.spent_seconds > most:
                job.result.fail(name, TooLargeError(f"The mutations before this one took more than {most} s"))
                job.steps = iter(())
        begun = time.thread_time()
        is_over = next(job.steps, _OVER) is _OVER
        job.spent_seconds += time.thread_time() - begun
        if is_over:
            job.steps = None
            job.done.append(job.rest.popleft())

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


def _parsed(body: bytes) -> object:
    try:
        return json_text.parse(body)
    except json_text.RefusedJsonError as error:
        raise BadRequestError([error_object(f"The body is not JSON: {error}", "BAD_REQUEST")]) from None


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
