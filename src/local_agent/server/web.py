"""HTTP/1.1 with kept-alive connections: POST for GraphQL on any path, GET /stats and GET /health."""

from __future__ import annotations

import errno
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from socketserver import StreamRequestHandler, TCPServer
from typing import Any, Protocol

from local_agent.server import http_head, json_text
from local_agent.server.auth import Keys, Unauthenticated
from local_agent.server.crew import Crew
from local_agent.server.documents import error_object
from local_agent.server.engine import Answer
from local_agent.server.http_head import Head, RefusedHeadError
from local_agent.server.stats import Stats

# The real API takes 5 MB; Prefect keeps below that itself.
MOST_BODY_BYTES = 32 * 1024 * 1024

# A connection that says nothing for so long is closed; agents say something every few seconds.
IDLE_SECONDS = 600

# How often is looked for a place for one more connection when there was none, and how often that is said.
_FULL_SECONDS = 0.1
_QUIET_SECONDS = 60.0

# What a client still sends after a refusal is waited for so long.
_FAREWELL_SECONDS = 2
_FAREWELL_READS = 10_000


class Answers(Protocol):
    """Answers a GraphQL request."""

    def answer(self, body: object, headers: Mapping[str, str]) -> Answer:
        """Given a body's JSON and the headers (names in lower case), return the answer."""


@dataclass(frozen=True)
class Site:
    """What the requests are answered with."""

    engine: Answers
    keys: Keys
    stats: Stats
    say: Callable[[str], None]


class WebServer(TCPServer):
    """Listens, and answers each connection in a thread of its own."""

    # So many may come at once; a connection that finds no place here comes again a second later.
    request_queue_size = 1024
    # A restart must get its port back at once.
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        """Bind and listen. Raise OSError if the address cannot be had."""
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.site = site
        self._in_work = 0
        self._quiet_until = 0.0
        self._crew = Crew()
        self._idle = threading.Condition()
        super().__init__(address, _Connection)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if self.address_family == socket.AF_INET6 else f"http://{host!s}:{port}"

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection. With as many open as this process may have, the next ones wait."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._complain_of_too_many()
                time.sleep(_FULL_SECONDS)
            raise

    def _complain_of_too_many(self) -> None:
        if time.monotonic() > self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            self.site.say(
                "error: no more connections can be opened; new ones wait until others are closed."
                " LimitNOFILE= and TasksMax= of the unit bound them"
            )

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's signature
        """Count a connection and hand it to a thread."""
        self.site.stats.connected()
        try:
            self._crew.do(partial(self._talk, request, client_address))
        except RuntimeError:  # no thread can be started
            self._complain_of_too_many()
            self.shutdown_request(request)

    def _talk(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)

    def server_close(self) -> None:
        """Listen no more. Connections that are open are left to their threads."""
        super().server_close()
        self._crew.close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - its signature
        """Say nothing of a client that went away in mid-request: that happens with every agent that is killed."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    @contextmanager
    def in_work(self) -> Iterator[None]:
        """Note that a request is being answered."""
        with self._idle:
            self._in_work += 1
        try:
            yield
        finally:
            with self._idle:
                self._in_work -= 1
                self._idle.notify_all()

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until every request has its answer, but not longer than given. Return whether that is so."""
        with self._idle:
            return self._idle.wait_for(lambda: self._in_work == 0, timeout=seconds)


class _Connection(StreamRequestHandler):
    timeout = IDLE_SECONDS
    # The answer must not wait 40 ms for the acknowledgement of its own first half.
    disable_nagle_algorithm = True
    server: WebServer

    def handle(self) -> None:
        """Answer one request after another, until the client has hung up or is to."""
        try:
            while self._answer_one():
                pass
        except RefusedHeadError as error:
            self._send(error.status, _errors(str(error), "BAD_REQUEST"), is_last=True)
            self._read_the_rest()

    def _read_the_rest(self) -> None:
        """Read what was not, as far as that is soon done: hung up on before, the client might lose its answer."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_FAREWELL_SECONDS)
            for _ in range(_FAREWELL_READS):
                if not self.rfile.read1():
                    return

    def _answer_one(self) -> bool:
        """Answer a request and return whether another may follow."""
        head = http_head.read(self.rfile)
        if head is None:
            return False
        if head.method == "POST":
            return self._post(head)
        if head.method == "GET":
            return self._get(head)
        raise RefusedHeadError(HTTPStatus.NOT_IMPLEMENTED, f"There is nothing here to {head.method}")

    def _post(self, head: Head) -> bool:
        body = self._body(head)
        if body is None:
            return False
        with self.server.in_work():
            answer = self._answer(body, head)
            self._send(answer.status, answer.body, is_last=head.is_last)
        return not head.is_last

    def _answer(self, body: bytes, head: Head) -> Answer:
        try:
            parsed = json_text.parse(body)
        except (ValueError, RecursionError):
            return Answer(HTTPStatus.BAD_REQUEST, _errors("The body is not JSON", "BAD_REQUEST"))
        return self.server.site.engine.answer(parsed, head.headers)

    def _body(self, head: Head) -> bytes | None:
        """Return the request's body, or None where the client hangs up in it."""
        length = head.body_length(MOST_BODY_BYTES)
        if head.headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def _get(self, head: Head) -> bool:
        status, text = self._page(head)
        # Nobody reads a body here, and so what follows it is not understood either.
        is_last = head.is_last or head.headers.get("content-length", "0") != "0"
        self._send(status, text, is_last=is_last)
        return not is_last

    def _page(self, head: Head) -> tuple[HTTPStatus, str]:
        pages: dict[str, Callable[[], dict[str, Any]]] = {
            "/stats": self.server.site.stats.as_json,
            "/health": lambda: {"status": "ok"},
        }
        page = pages.get(head.path.partition("?")[0])
        if page is None:
            return HTTPStatus.NOT_FOUND, _errors("POST GraphQL here, or GET /stats or /health", "NOT_FOUND")
        try:
            self.server.site.keys.check_key(head.headers)
        except Unauthenticated as error:
            return HTTPStatus.UNAUTHORIZED, _errors(str(error), "UNAUTHENTICATED")
        return HTTPStatus.OK, json.dumps(page(), separators=(",", ":"))

    def _send(self, status: int, body: str, *, is_last: bool) -> None:
        data = body.encode()
        lines = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "Server: local-agent",
            f"Date: {formatdate(usegmt=True)}",
            "Content-Type: application/json",
            f"Content-Length: {len(data)}",
            *(("Connection: close",) if is_last else ()),
        )
        # Header and body leave in one piece.
        self.wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)


def _errors(message: str, code: str) -> str:
    return json.dumps({"errors": [error_object(message, code)]})
