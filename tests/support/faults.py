"""A proxy in front of an API that goes wrong on demand.

    with FaultyProxy(api.url) as proxy:
        proxy.lose_answer("set_flow_run_states")          # done by the API, but nobody hears of it
        proxy.answer(503, "get_runs_in_queue", times=3)
        agent = start_agent(proxy.url)

A rule matches requests whose query contains a text ("" is every request): of GraphQL its document, of anything else
"METHOD /path BODY". The newest rule that matches wins; one
with `times` is used up. One thread accepts, one serves each connection; `close` ends them all.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from support.ports import ports_to_try

UPSTREAM_SECONDS = 60.0
HTML = "<!DOCTYPE html><html><body><h1>It works!</h1></body></html>"


@dataclass(frozen=True)
class Exchange:
    """A request as it came, and what forwards it."""

    body: bytes
    query: str
    forward: Callable[[], tuple[int, bytes]]


Answer = tuple[int, str, bytes] | None
"""Status, content type and body; None closes the connection without an answer."""

Fault = Callable[[Exchange], Answer]


@dataclass
class Rule:
    """What is done to requests that match. `times` is how many more it takes, None for all.

    `hits` counts requests when they come, `finished` when all that the rule does to them is done.
    """

    matching: str
    fault: Fault
    times: int | None = None
    hits: int = 0
    finished: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, query: str) -> bool:
        """Say whether the rule applies to a request, and count it."""
        with self._changed:
            if self.matching not in query or self.times == 0:
                return False
            self.hits += 1
            if self.times is not None:
                self.times -= 1
            self._changed.notify_all()
            return True

    def wait_for_hits(self, count: int = 1, *, seconds: float = 60.0) -> None:
        """Wait until so many requests have met the rule. Raise AssertionError if they do not come."""
        self._wait(lambda: self.hits, count, seconds)

    def wait_until_finished(self, count: int = 1, *, seconds: float = 60.0) -> None:
        """Wait until the rule is through with so many requests; a lost answer's request is applied then."""
        self._wait(lambda: self.finished, count, seconds)

    def _wait(self, number: Callable[[], int], count: int, seconds: float) -> None:
        with self._changed:
            came = self._changed.wait_for(lambda: number() >= count, timeout=seconds)
        assert came, f"{number()} of {count} requests with {self.matching!r} came within {seconds:.0f} s"

    def apply(self, exchange: Exchange) -> Answer:
        """Do to a request what the rule is for."""
        try:
            return self.fault(exchange)
        finally:
            with self._changed:
                self.finished += 1
                self._changed.notify_all()


class FaultyProxy:
    """Listens on loopback and passes requests on to an API, faults aside."""

    def __init__(self, upstream: str) -> None:
        """Given the API's URL, which need not answer yet."""
        self._upstream = urlsplit(upstream)
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._requests: Counter[str] = Counter()
        self._connections = 0
        self._open: set[socket.socket] = set()
        self._closing = threading.Event()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._port = 0
        self.ahead_seconds = 0.0  # how far the clock is that its answers' Date tells

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it listens; the same after `close` and `start`."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen. After `close` this is on the same port again."""
        assert self._server is None, "the proxy is running"
        self._closing.clear()
        self._server = _listen(ports_to_try(self._port), self)
        self._port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="faulty-proxy")
        self._thread.start()

    def close(self) -> None:
        """Stop listening, cut every connection, and return when no thread is left."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self._server = self._thread = None
        self._closing.set()
        server.shutdown()
        thread.join()
        self.drop_connections()
        server.server_close()

    # Faults

    def add(self, fault: Fault, matching: str = "", *, times: int | None = None) -> Rule:
        """Do something to requests whose query contains a text: always, or to the next so many."""
        rule = Rule(matching, fault, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Take all faults back."""
        with self._lock:
            self._rules.clear()

    def lose_answer(self, matching: str = "", *, times: int | None = 1) -> Rule:
        """Pass the request on, and close the connection instead of handing its answer back."""

        def fault(exchange: Exchange) -> None:
            passed_on(exchange)

        return self.add(fault, matching, times=times)

    def refuse(self, matching: str = "", *, times: int | None = None) -> Rule:
        """Close the connection without passing the request on."""
        return self.add(lambda _exchange: None, matching, times=times)

    def answer(
        self, status: int, matching: str = "", *, body: str = "", kind: str = "text/plain", times: int | None = None
    ) -> Rule:
        """Answer with this status and do not pass the request on."""
        return self.add(lambda _exchange: (status, kind, body.encode()), matching, times=times)

    def answer_html(self, matching: str = "", *, status: int = 200, times: int | None = None) -> Rule:
        """Answer with a web page, as a captive portal or a wrong URL does."""
        return self.answer(status, matching, body=HTML, kind="text/html", times=times)

    def answer_errors(
        self, message: str, matching: str = "", *, code: str = "INTERNAL_SERVER_ERROR", times: int | None = None
    ) -> Rule:
        """Answer with a GraphQL error and do not pass the request on."""
        body = json.dumps({"errors": [{"message": message, "extensions": {"code": code}}], "data": None})
        return self.answer(200, matching, body=body, kind="application/json", times=times)

    def delay(self, seconds: float, matching: str = "", *, times: int | None = None) -> Rule:
        """Pass the request on after a while. `close` does not wait for it."""

        def fault(exchange: Exchange) -> Answer:
            if self._closing.wait(seconds):
                return None
            return passed_on(exchange)

        return self.add(fault, matching, times=times)

    def hold(self, matching: str = "", *, times: int | None = 1) -> tuple[Rule, threading.Event]:
        """Keep requests back until the event that is returned is set; then pass them on."""
        release = threading.Event()

        def fault(exchange: Exchange) -> Answer:
            while not release.wait(0.02):
                if self._closing.is_set():
                    return None
            return passed_on(exchange)

        return self.add(fault, matching, times=times), release

    def drop_connections(self) -> None:
        """Cut every connection that is open."""
        with self._lock:
            open_now = list(self._open)
        for connection in open_now:
            _cut(connection)

    # Counters

    @property
    def connections(self) -> int:
        """How many TCP connections were made."""
        with self._lock:
            return self._connections

    @property
    def requests(self) -> int:
        """How many requests came."""
        with self._lock:
            return self._requests.total()

    def count(self, matching: str) -> int:
        """Return how many requests had a text in their query, whatever was done to them."""
        with self._lock:
            return sum(number for query, number in self._requests.items() if matching in query)

    def reset_counters(self) -> None:
        """Start counting anew."""
        with self._lock:
            self._connections = 0
            self._requests.clear()

    # Serving, called by the handlers

    def opened(self, connection: socket.socket) -> None:
        """Note a connection."""
        with self._lock:
            self._connections += 1
        self._watch(connection)

    def _watch(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        if self._closing.is_set():
            # It came too late for `close` to see it there.
            _cut(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._lock:
            self._open.discard(connection)

    def serve(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Return what is answered to a request, or None to close the connection."""
        query = _query(method, path, body)
        with self._lock:
            self._requests[query] += 1
            rule = next((rule for rule in reversed(self._rules) if rule.take(query)), None)
        exchange = Exchange(body, query, lambda: self._forward(method, path, headers, body))
        return rule.apply(exchange) if rule else passed_on(exchange)

    def _forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        host, port = self._upstream.hostname or "127.0.0.1", self._upstream.port or 80
        connection = http.client.HTTPConnection(host, port, timeout=UPSTREAM_SECONDS)
        try:
            connection.connect()
            upstream = connection.sock
            self._watch(upstream)
            try:
                connection.request(method, path, body or None, headers)
                response = connection.getresponse()
                return response.status, response.read()
            finally:
                self.closed(upstream)
        finally:
            connection.close()


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):  # it may have just ended by itself
        connection.shutdown(socket.SHUT_RDWR)


def passed_on(exchange: Exchange) -> Answer:
    """Return the API's own answer, None where it gives none."""
    try:
        status, body = exchange.forward()
    except (OSError, http.client.HTTPException):
        return None  # an API that is down looks like one through the proxy, too
    return status, "application/json", body


def _query(method: str, path: str, body: bytes) -> str:
    text = body.decode(errors="replace")
    try:
        parsed: Any = json.loads(body)
    except ValueError:
        return f"{method} {path} {text}"
    if isinstance(parsed, dict) and "query" in parsed:
        return str(parsed["query"])
    return f"{method} {path} {text}"


class _Server(ThreadingHTTPServer):
    # The threads are waited for: a test must leave none behind.
    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, proxy: FaultyProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's signature
        """A client that went away is none of the test's business."""


def _listen(ports: list[int], proxy: FaultyProxy) -> _Server:
    for port in ports[:-1]:
        try:
            return _Server(port, proxy)
        except OSError:
            continue
    return _Server(ports[-1], proxy)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.proxy.opened(self.connection)

    def finish(self) -> None:
        self.server.proxy.closed(self.connection)
        super().finish()

    def do_POST(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        answer = self.server.proxy.serve(self.command, self.path, headers, body)
        if answer is None:
            self.close_connection = True
            return
        status, kind, content = answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self._headers_buffer: list[bytes]
        self._headers_buffer += [b"\r\n", content]
        self.flush_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Tell the time of an API whose clock may be wrong."""
        return super().date_time_string((timestamp or time.time()) + self.server.proxy.ahead_seconds)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's signature
        """Say nothing."""


# what is packed could not be told from what is not: no answer's Content-Encoding is handed back
_HOP_BY_HOP = frozenset(("accept-encoding", "connection", "content-length", "host", "transfer-encoding", "keep-alive"))
