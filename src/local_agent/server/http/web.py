"""HTTP/1.1: POST for GraphQL on any path, GET /stats and /health, and /access on the unix socket."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import StreamReader, web

from local_agent.net.http_guard import Head, RefusedHeadError
from local_agent.server.asking.auth import Keys, Unauthenticated
from local_agent.server.asking.request import Asked
from local_agent.server.asking.stats import Stats
from local_agent.server.bounds.limits import Limits
from local_agent.server.bounds.room import Room
from local_agent.server.engine import Answer, Next
from local_agent.server.graphql.documents import error_object
from local_agent.server.http.access import Access
from local_agent.server.http.callers import Callers
from local_agent.server.http.connections import Connection, Connections
from local_agent.server.http.peers import Allowed
from local_agent.server.http.reply import Reply, encoded

# So many may come at once; a connection that finds no place here comes again a second later.
_BACKLOG = 1024

# Of those that came in one turn of the loop, so many are answered before it turns again.
_MAX_AT_ONCE = 64

# asyncio tries as often at once to accept, also where there are no descriptors left: then once a second.
_ACCEPTED_AT_ONCE = 64
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

# Who has made a socket removes it, and that may be systemd; since 3.13 asyncio would.
_LEAVE_IT: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}

_ALLOW = {"Allow": "GET, HEAD, OPTIONS, POST"}
_KNOWN_METHODS = frozenset(("PUT", "DELETE", "PATCH", "TRACE", "CONNECT"))  # RFC 9110, RFC 5789

# So many wait beside the others for what takes long.
_MAX_ASIDE = 16


class Answers(Protocol):
    """Answers GraphQL requests."""

    def answer_all(self, asked: Sequence[Asked]) -> list[Answer | Next]:
        """Given what came together, return the answers to the first of them, one at least."""

    def answer_slowly(self, asked: Asked) -> Answer | Next:
        """Go on with what `answer_all` did not answer; called in other threads."""


@dataclass(frozen=True)
class Site:
    """What the requests are answered with."""

    engine: Answers
    keys: Keys
    stats: Stats
    callers: Callers
    say: Callable[[str], None]
    limits: Limits = field(default_factory=Limits)
    allowed: Allowed = field(default_factory=Allowed)
    access: Access | None = None


class WebServer:
    """Listens, and answers each request in the loop that it was made in."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _loop, context: self._caught(context))
        self._room = Room(site.limits.bytes_in_all)
        self._connections = Connections(site.limits, site.stats, site.say, self._answer_whole, site.allowed)
        self._aiohttp = web.Server(self._handle)
        self._listeners: list[asyncio.Server] = []
        self._waiting: deque[tuple[Asked, Callable[[Answer | Next], None]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(_MAX_ASIDE, thread_name_prefix="aside")
        self._aside_count = 0

    async def listen(self, listener: socket.socket) -> None:
        """Answer whoever connects to a socket that listens."""
        make = self._connection
        if listener.family == socket.AF_UNIX:
            serving = self._loop.create_unix_server(make, sock=listener, backlog=_ACCEPTED_AT_ONCE, **_LEAVE_IT)
        else:
            serving = self._loop.create_server(make, sock=listener, backlog=_ACCEPTED_AT_ONCE)
        self._listeners.append(await serving)
        listener.listen(_BACKLOG)

    def _caught(self, context: Mapping[str, Any]) -> None:
        """Say what asyncio caught, as nobody else would; a connection for which there is no descriptor is no fault."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            self._connections.no_room(error)
        else:
            _say_fault(self._site.say, context)

    def _connection(self) -> Connection:
        return Connection(self._connections, self._aiohttp, self._loop)

    async def close(self, last_answers_seconds: float) -> None:
        """Listen no more, wait so long until every request has its answer, and hang up."""
        for listener in self._listeners:
            listener.close()
        await self._connections.close(last_answers_seconds)
        await self._aiohttp.shutdown(0)
        self._threads.shutdown()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        try:
            if connection.refusal is not None:
                return await self._dismiss(request, connection, connection.refusal)
            return await self._answer(request, connection, connection.head)
        except RefusedHeadError as error:
            return _refused(error)
        except ConnectionError:
            raise
        except Exception as error:
            answer = _fault(self._site.say, error)
            return Reply(answer.status, answer.body, is_last=True)
        finally:
            connection.answered()

    async def _dismiss(
        self, request: web.BaseRequest, connection: Connection, refusal: RefusedHeadError
    ) -> web.StreamResponse:
        """Answer what is not read, and read the rest, as far as that is soon done.

        Hung up on before, the client might lose its answer.
        """
        response = _refused(refusal)
        await response.prepare(request)
        await connection.farewell(self._site.limits.farewell_seconds)
        return response

    async def _answer(self, request: web.BaseRequest, connection: Connection, head: Head) -> web.StreamResponse:
        self._site.callers.check(head.method, head.headers)
        cors = self._site.callers.cors(head.method, head.headers)
        if head.method == "POST":
            answer = await self._post(request, connection, head)
        elif head.method in ("GET", "HEAD"):
            answer = self._page(head.path, head.headers, connection)
        else:
            answer = _nothing_to_do(head.method)
            cors = {**_ALLOW, **cors}
        self._note_size(answer)
        return Reply(answer.status, answer.body, is_last=False, more=cors, is_head=head.method == "HEAD")

    def _note_size(self, answer: Answer) -> None:
        if len(answer.body) > self._site.limits.small_bytes:
            self._connections.tidiness.disturb()
            self._loop.call_soon(self._connections.bound_unsent)

    def _refused_key(self, headers: Mapping[str, str], connection: Connection) -> Answer | None:
        """Return the answer to a request without the key that it needs, before a byte of its body is looked at."""
        try:
            self._check_key(headers, connection)
        except Unauthenticated as error:
            # Cloud says this with status 200; Prefect looks for the word. Whom it names is not believed either.
            self._site.stats.count({}, [])
            return Answer(HTTPStatus.OK, json.dumps({"data": None, "errors": [_error(error)]}))
        return None

    async def _post(self, request: web.BaseRequest, connection: Connection, head: Head) -> Answer:
        refused = self._refused_key(head.headers, connection)
        if refused is not None:
            return refused
        await _go_on(request, head.headers)
        if head.body_bytes <= self._site.limits.small_bytes:
            return await self._asked(request, connection, head)
        with await self._room.take(head.body_bytes):
            try:
                return await self._asked(request, connection, head)
            finally:
                self._connections.tidiness.disturb()

    def _check_key(self, headers: Mapping[str, str], connection: Connection) -> None:
        if not connection.allowance:
            self._site.keys.check_key(headers)

    async def _asked(self, request: web.BaseRequest, connection: Connection, head: Head) -> Answer:
        body = await _body(request.content, head.body_bytes)
        asked = Asked(body, head.headers, connection.client, is_allowed=bool(connection.allowance))
        answer = await self._in_turn(asked)
        while not isinstance(answer, Answer):
            answer = await (self._aside(asked) if answer is Next.SLOWLY else self._in_turn(asked))
        return answer

    async def _aside(self, asked: Asked) -> Answer | Next:
        """Have a request answered that would hold up the others."""
        if self._aside_count >= _MAX_ASIDE:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, _errors("Too many long requests: ask again later", "BUSY"))
        self._aside_count += 1
        try:
            return await self._loop.run_in_executor(self._threads, self._site.engine.answer_slowly, asked)
        finally:
            self._aside_count -= 1

    def _in_turn(self, asked: Asked) -> asyncio.Future[Answer | Next]:
        """Have a request answered together with whatever else has come in this turn of the loop."""
        answer: asyncio.Future[Answer | Next] = self._loop.create_future()
        self._put(asked, lambda found: None if answer.done() else answer.set_result(found))
        return answer

    def _put(self, asked: Asked, take: Callable[[Answer | Next], None]) -> None:
        if not self._waiting:
            self._loop.call_soon(self._answer_all)
        self._waiting.append((asked, take))

    def _answer_all(self) -> None:
        now = [self._waiting[number] for number in range(min(len(self._waiting), _MAX_AT_ONCE))]
        try:
            answers = self._site.engine.answer_all([asked for asked, _ in now])
        except Exception as error:
            answers = [_fault(self._site.say, error)] * len(now)
        taken = [self._waiting.popleft()[1] for _ in answers]
        if self._waiting:
            self._loop.call_soon(self._answer_all)
        for take, answer in zip(taken, answers, strict=True):
            take(answer)

    def _answer_whole(self, connection: Connection, body: bytes) -> None:
        """Answer a POST that has come whole. It needs no task, and none of the objects that aiohttp makes for one."""
        head = connection.head
        try:
            self._site.callers.check(head.method, head.headers)
            cors = self._site.callers.cors(head.method, head.headers)
            refused = self._refused_key(head.headers, connection)
        except RefusedHeadError as error:
            connection.send(encoded(error.status, _refusal(error), is_last=True), is_last=True)
            return
        asked = Asked(body, head.headers, connection.client, is_allowed=bool(connection.allowance))
        if refused is None:
            self._put(asked, partial(self._go_on_with, connection, asked, cors))
        else:
            self._send(connection, refused, cors)

    def _go_on_with(self, connection: Connection, asked: Asked, cors: Mapping[str, str], answer: Answer | Next) -> None:
        if isinstance(answer, Answer):
            self._send(connection, answer, cors)
        elif answer is Next.AGAIN:
            self._put(asked, partial(self._go_on_with, connection, asked, cors))
        else:
            task = self._loop.create_task(self._go_on_aside(connection, asked, cors))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _go_on_aside(self, connection: Connection, asked: Asked, cors: Mapping[str, str]) -> None:
        try:
            answer = await self._aside(asked)
        except Exception as error:
            answer = _fault(self._site.say, error)
        self._go_on_with(connection, asked, cors, answer)

    def _send(self, connection: Connection, answer: Answer, cors: Mapping[str, str]) -> None:
        is_last = connection.head.is_last
        try:
            self._note_size(answer)
            reply = encoded(answer.status, answer.body, is_last=is_last, more=cors)
        except Exception as error:
            answer = _fault(self._site.say, error)
            is_last, reply = True, encoded(answer.status, answer.body, is_last=True)
        connection.send(reply, is_last=is_last)

    def _page(self, path: str, headers: Mapping[str, str], connection: Connection) -> Answer:
        page = self._pages(connection).get(path)
        if page is None:
            return Answer(HTTPStatus.NOT_FOUND, _errors("POST GraphQL here, or GET /stats or /health", "NOT_FOUND"))
        try:
            self._check_key(headers, connection)
        except Unauthenticated as error:
            return Answer(HTTPStatus.UNAUTHORIZED, json.dumps({"errors": [_error(error)]}))
        return Answer(HTTPStatus.OK, json.dumps(page(), separators=(",", ":")))

    def _pages(self, connection: Connection) -> dict[str, Callable[[], Mapping[str, Any]]]:
        pages: dict[str, Callable[[], Mapping[str, Any]]] = {
            "/stats": self._site.stats.as_json,
            "/health": lambda: {"status": "ok"},
        }
        if self._site.access is not None and connection.allowance:
            pages["/access"] = partial(self._site.access.page, connection.allowance)
        return pages


async def _body(content: StreamReader, length: int) -> bytes:
    """Read a body. Raise what aiohttp does where the client hangs up in it."""
    if not length:
        return b""
    first = await content.readany()
    if len(first) == length:
        return first
    body = bytearray(first)
    try:
        while len(body) < length:
            more = await content.readany()
            if not more:
                raise ConnectionResetError("the client has hung up")
            body += more
        return bytes(body)
    finally:
        # The exception may be kept for long by what it is about, and with it everything that was read.
        body.clear()


async def _go_on(request: web.BaseRequest, headers: Mapping[str, str]) -> None:
    """Tell a client that waits to be told to send its body."""
    expected = headers.get("expect")
    if expected is None:
        return
    if expected.lower() != "100-continue":
        raise RefusedHeadError(HTTPStatus.EXPECTATION_FAILED, "Only 100-continue can be expected here")
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _nothing_to_do(method: str) -> Answer:
    """Return the answer to a method that asks for nothing here. Raise RefusedHeadError for one that is unknown."""
    if method == "OPTIONS":
        return Answer(HTTPStatus.NO_CONTENT, "")
    if method in _KNOWN_METHODS:
        return Answer(HTTPStatus.METHOD_NOT_ALLOWED, _errors(f"There is nothing here to {method}", "BAD_REQUEST"))
    raise RefusedHeadError(HTTPStatus.NOT_IMPLEMENTED, f"There is nothing here to {method[:20]}")


def _say_fault(say: Callable[[str], None], context: Mapping[str, Any]) -> None:
    """Say what asyncio caught: nobody else would."""
    error = context.get("exception")
    trace = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
    say(f"error: a fault of this API: {context.get('message')}\n{trace}".rstrip())


def _fault(say: Callable[[str], None], error: Exception) -> Answer:
    say("error: a request failed by a fault of this API\n" + "".join(traceback.format_exception(error)))
    return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, _errors("A fault of this API", "INTERNAL_SERVER_ERROR"))


def _refused(error: RefusedHeadError) -> Reply:
    return Reply(error.status, _refusal(error), is_last=True)


def _refusal(error: RefusedHeadError) -> str:
    return _errors(str(error), "BAD_REQUEST")


def _error(error: Unauthenticated) -> dict[str, Any]:
    return error_object(str(error), "UNAUTHENTICATED")


def _errors(message: str, code: str) -> str:
    return json.dumps({"errors": [error_object(message, code)]})
