"""The HTTP service at --agent-address: GET /api/health tells the truth, /api/poke wakes the poll, /metrics counts.

It answers from a thread of its own, because a loop that is stuck could not say so.
"""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from local_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local_agent.outage import Reachability
    from local_agent.progress import Progress
    from local_agent.settings import Address


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


@contextlib.contextmanager
def served(
    address: Address, health: Callable[[], Health], poke: Callable[[], None], metrics: Callable[[], bytes] | None
) -> Iterator[None]:
    """Serve at `address` for the length of the context. What is given is called from other threads.

    `metrics` renders /metrics; None where nothing is counted.
    Raise ConfigError where the address is taken or is not this machine's.
    """
    try:
        server = _Server((address.host, address.port), health, poke, metrics)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror}", hint="choose another --agent-address; `ss -ltnp` shows who"
        ) from error
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

    def __init__(
        self,
        address: tuple[str, int],
        health: Callable[[], Health],
        poke: Callable[[], None],
        metrics: Callable[[], bytes] | None,
    ) -> None:
        self.health = health
        self.poke = poke
        self.metrics = metrics
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer /api/health, /api/poke and /metrics."""
        if self.path == "/api/health":
            health = self.server.health()
            self._answer(health.status, health.as_json())
        elif self.path == "/api/poke":
            self.server.poke()
            self._answer(HTTPStatus.OK, {})
        elif self.path == "/metrics" and self.server.metrics is not None:
            self._send(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", self.server.metrics())
        elif self.path == "/metrics":
            self._answer(HTTPStatus.NOT_FOUND, {"error": "/metrics needs prometheus_client: python3-prometheus-client"})
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": "there are /api/health, /api/poke and /metrics"})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: probes ask every few seconds."""

    def _answer(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
