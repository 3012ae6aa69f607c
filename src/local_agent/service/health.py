"""The HTTP service at --agent-address: GET /api/health tells the truth, /api/poke wakes the poll, /metrics counts.

It answers from a thread of its own, because a loop that is stuck could not say so; and by http.server, because aiohttp,
which the embedded API uses, would add a third to the start of the agent (75 ms of CPU time) and a quarter to its memory
(6 MB).
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from local_agent.net import http_guard
from local_agent.net.http_guard import END_OF_HEAD, RefusedHeadError
from local_agent.net.listening import listeners

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from local_agent.agent.progress import Progress
    from local_agent.agent.reachability import Reachability
    from local_agent.settings import Address

# For a request from its first byte to its last, and for its answer.
_SECONDS = 5.0
_MIN_SECONDS = 0.001
_CHUNK_BYTES = 4096
_MAX_CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Health:
    """How the agent is: `problem` is "" where all is well."""

    problem: str
    for_seconds: float

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status that says so."""
        return HTTPStatus.SERVICE_UNAVAILABLE if self.problem else HTTPStatus.OK

    def as_json(self) -> dict[str, Any]:
        """Return the body: what is wrong, and for how long."""
        if not self.problem:
            return {"status": "ok"}
        return {"status": "failing", "problem": self.problem, "for_seconds": round(self.for_seconds)}


def judge(progress: Progress, reachability: Reachability, unhealthy_after_seconds: float) -> Health:
    """Given the loop's progress and the API's answers, say how the agent is."""
    if progress.is_stuck:
        return Health("the agent's loop is stuck", progress.age_seconds)
    lost = reachability.lost_for_seconds
    if lost is not None and lost > unhealthy_after_seconds:
        return Health(reachability.reason, lost)
    return Health("", 0.0)


@dataclass(frozen=True, slots=True)
class Pages:
    """What is asked; called from other threads. `metrics` renders /metrics, None where nothing is counted."""

    health: Callable[[], Health]
    poke: Callable[[], None]
    metrics: Callable[[], bytes] | None


@contextlib.contextmanager
def served(address: Address, pages: Pages, seconds: float = _SECONDS) -> Iterator[None]:
    """Serve at `address` for the length of the context. A request, and its answer, may take so many seconds.

    Raise ConfigError where the address is taken or is not this machine's.
    """
    names = frozenset({address.host.lower(), socket.gethostname().lower()})
    with contextlib.ExitStack() as stack:
        listening = [stack.enter_context(listener) for listener in listeners(address)]
        for listener in listening:
            stack.enter_context(_serving(_Server(listener, names, pages, seconds)))
        yield


@contextlib.contextmanager
def _serving(server: _Server) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, names: Collection[str], pages: Pages, seconds: float) -> None:
        self.pages = pages
        self.seconds = seconds
        self.names = names
        self._open: dict[socket.socket, None] = {}
        self._lock = threading.Lock()
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's signature
        """Answer a connection in a thread. Where there are too many, the oldest makes room."""
        with self._lock:
            self._open[request] = None
            if len(self._open) > _MAX_CONNECTIONS:
                with contextlib.suppress(OSError):
                    next(iter(self._open)).shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as above
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Say nothing of a client that went away, or was too slow."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def serves(self, name: str) -> bool:
        """Say whether a name or an address in Host leads here. No page can make an address its own."""
        return name in self.names or http_guard.is_loopback(name) or http_guard.as_address(name) is not None


class _Handler(BaseHTTPRequestHandler):
    """One request on each connection. What it reads from is its head, read and found good beforehand."""

    server: _Server
    protocol_version = "HTTP/1.1"
    rfile: io.BufferedIOBase

    def handle(self) -> None:
        """Answer one request."""
        until = time.monotonic() + self.server.seconds
        try:
            head = self._head(until)
            http_guard.read_head(head, 0)
        except RefusedHeadError as error:
            self.requestline, self.request_version, self.command = "", self.protocol_version, ""
            self._answer(error.status, {"error": str(error)})
            return
        self.rfile = io.BytesIO(head)
        self.handle_one_request()

    def _head(self, until: float) -> bytes:
        """Read a whole head, all in all within the time that a request has. Raise RefusedHeadError, OSError."""
        head = bytearray()
        while (end := head.find(END_OF_HEAD)) < 0:
            http_guard.check_beginning(head)
            self.connection.settimeout(max(until - time.monotonic(), _MIN_SECONDS))
            part = self.connection.recv(_CHUNK_BYTES)
            if not part or time.monotonic() > until:
                raise TimeoutError("no request in time")
            head += part
        return bytes(head[: end + len(END_OF_HEAD)])

    def do_GET(self) -> None:
        """Answer /api/health, /api/poke and /metrics."""
        pages = self.server.pages
        refusal = self._refusal()
        if refusal:
            self._answer(HTTPStatus.FORBIDDEN, {"error": refusal})
        elif self.path == "/api/health":
            health = pages.health()
            self._answer(health.status, health.as_json())
        elif self.path == "/api/poke":
            pages.poke()
            self._answer(HTTPStatus.OK, {})
        elif self.path == "/metrics" and pages.metrics is not None:
            self._send(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", pages.metrics())
        elif self.path == "/metrics":
            self._answer(HTTPStatus.NOT_FOUND, {"error": "/metrics needs prometheus_client: python3-prometheus-client"})
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": "there are /api/health, /api/poke and /metrics"})

    def _refusal(self) -> str:
        """Say why a request is not answered, "" if it is: pages in a browser must neither do nor learn anything."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        name = http_guard.host_name(headers.get("host", ""))
        if name is None or not self.server.serves(name):
            return "this agent is not asked under this name: give the name to --agent-address"
        is_own = headers.get("sec-fetch-site", "none") == "none"
        # An old browser that does not say where a request comes from still says what it is.
        asks_for_a_page = "origin" in headers or "referer" in headers or not is_own
        if asks_for_a_page or (self.path == "/api/poke" and headers.get("user-agent", "").startswith("Mozilla/")):
            return "web pages may not ask this agent"
        return ""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: probes ask every few seconds."""

    def _answer(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.connection.settimeout(self.server.seconds)  # for all of it, not for each part
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
