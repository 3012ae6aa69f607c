"""HTTP/1.1 with kept-alive connections: POST for GraphQL on any path, GET /stats and GET /health."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from local_agent.server import json_text
from local_agent.server.auth import Keys, Unauthenticated
from local_agent.server.documents import error_object
from local_agent.server.engine import Answer
from local_agent.server.stats import Stats

# The real API takes 5 MB; Prefect keeps below that itself.
MOST_BODY_BYTES = 32 * 1024 * 1024

# A connection that says nothing for so long is closed; agents say something every few seconds.
IDLE_SECONDS = 600


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


class WebServer(ThreadingHTTPServer):
    """Listens, and answers each connection in a thread of its own."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    # A restart must get its port back at once.
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        """Bind and listen. Raise OSError if the address cannot be had."""
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.site = site
        self._in_work = 0
        self._idle = threading.Condition()
        super().__init__(address, _Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if self.address_family == socket.AF_INET6 else f"http://{host!s}:{port}"

    def server_bind(self) -> None:
        """Bind, without HTTPServer's look-up of our own name: it can take seconds where DNS is broken."""
        # The kernel's own rule for two servers on one port, which reuse alone would let pass for a wildcard address.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's signature
        """Count a connection and hand it to a thread."""
        self.site.stats.connected()
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - its signature
        """Say nothing of a client that went away in mid-request: that happens with every agent that is killed."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def in_work(self, change: int) -> None:
        """Note that a request came in (+1) or has had its answer (-1)."""
        with self._idle:
            self._in_work += change
            self._idle.notify_all()

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until every request has its answer, but not longer than given. Return whether that is so."""
        with self._idle:
            return self._idle.wait_for(lambda: self._in_work == 0, timeout=seconds)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "local-agent"
    sys_version = ""
    timeout = IDLE_SECONDS
    # The answer must not wait 40 ms for the acknowledgement of its own first half.
    disable_nagle_algorithm = True
    server: WebServer

    def do_POST(self) -> None:
        self.server.in_work(1)
        try:
            self._post()
        finally:
            self.server.in_work(-1)

    def _post(self) -> None:
        body = self._body()
        if body is None:
            return
        try:
            parsed = json_text.parse(body)
        except (ValueError, RecursionError):
            self._send(HTTPStatus.BAD_REQUEST, _errors("The body is not JSON", "BAD_REQUEST"))
            return
        answer = self.server.site.engine.answer(parsed, self._headers())
        self._send(answer.status, answer.body)

    def do_GET(self) -> None:
        pages: dict[str, Callable[[], dict[str, Any]]] = {
            "/stats": self.server.site.stats.as_json,
            "/health": lambda: {"status": "ok"},
        }
        page = pages.get(self.path.partition("?")[0])
        if page is None:
            self._send(HTTPStatus.NOT_FOUND, _errors("POST GraphQL here, or GET /stats or /health", "NOT_FOUND"))
            return
        try:
            self.server.site.keys.check_key(self._headers())
        except Unauthenticated as error:
            self._send(HTTPStatus.UNAUTHORIZED, _errors(str(error), "UNAUTHENTICATED"))
            return
        self._send(HTTPStatus.OK, json.dumps(page(), separators=(",", ":")))

    def _headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def _body(self) -> bytes | None:
        """Return the request's body, or answer and return None where there is none to be had."""
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "A request needs a Content-Length")
            return None
        if not 0 <= length <= MOST_BODY_BYTES:
            message = f"A request may have {MOST_BODY_BYTES} bytes, not {length}"
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
            return None
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return None
        return body

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        # What follows on this connection is the body that was not read.
        self.close_connection = True
        self._send(status, _errors(message, "BAD_REQUEST"))

    def _send(self, status: int, body: str) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        # Header and body leave in one piece.
        self._headers_buffer: list[bytes]
        self._headers_buffer += [b"\r\n", data]
        self.flush_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's signature
        """A line per request would bury what matters; GET /stats has the numbers."""


def _errors(message: str, code: str) -> str:
    return json.dumps({"errors": [error_object(message, code)]})
