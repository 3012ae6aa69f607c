"""The embedded API as a child process, for tests: start it, kill it, and speak to it in its own words.

with Api(tmp_path / "server.db") as api:
    flow = api.create_flow("noop", labels=["demo"])
    run = api.create_flow_run(flow)
    assert api.state(run) == "Scheduled"
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.api_client import ApiClient, ApiError, moment, new_id, serialized_flow, wait_until
from support.ports import ports_to_try

__all__ = ["Api", "ApiError", "moment", "new_id", "serialized_flow", "wait_until"]

START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
_LISTENS = "local-agent server listens on "
_TAKEN = "is taken by another program"
_CHECKOUT = Path(__file__).parents[2]


class Api(ApiClient):
    """`local-agent server` on a free port of loopback, with a data file of its own. Usable from one thread."""

    def __init__(
        self,
        data: Path,
        *,
        options: Sequence[str] = (),
        key: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Given a data file (made if need be), more options of the command, and a key that it shall ask for.

        `environment` adds to this process's own, without what names a Prefect or a local-agent there.
        """
        super().__init__()
        self.data = data
        self.key = key
        self._options = list(options)
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.kill()

    # The process

    @property
    def url(self) -> str:
        """Where it listens; the same after a restart."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def listening(self) -> str:
        """The line that it prints when it listens."""
        return f"{_LISTENS}{self.url}\n"

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None, "the API is not running"
        return self._process.pid

    @property
    def console(self) -> str:
        """What it has printed since its first start."""
        return self._console_path.read_text() if self._console_path.exists() else ""

    @property
    def _console_path(self) -> Path:
        return self.data.with_suffix(".console")

    def start(self) -> None:
        """Start it and return when it listens. Raise AssertionError with what it printed if it does not."""
        assert self._process is None, "the API is running"
        self.data.parent.mkdir(parents=True, exist_ok=True)
        for port in ports_to_try(self._port):
            self._port = port
            if self._listens():
                return
        raise AssertionError(f"local-agent server did not start to listen; it printed:\n{self.console}")

    def _listens(self) -> bool:
        """Start it on its port. Return whether it listens there; if not because the port is taken, nothing runs."""
        already = len(self.console)
        with self._console_path.open("ab") as console:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=self.environment
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self.listening in self.console[already:]:
                return True
            time.sleep(0.01)
        self.kill()
        printed = self.console[already:]
        assert _TAKEN in printed, f"local-agent server did not start to listen; it printed:\n{printed}"
        return False

    @property
    def command(self) -> list[str]:
        """The command line that starts it."""
        server = [sys.executable, "-m", "local_agent", "server", "--port", str(self._port), "--data", str(self.data)]
        return [*server, *self._options]

    @property
    def environment(self) -> dict[str, str]:
        """The environment that it is started with."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT__", "LOCAL_AGENT_SERVER_", "NOTIFY_"))
        }
        key = {"LOCAL_AGENT_SERVER_API_KEY": self.key} if self.key else {}
        return {**inherited, "PYTHONPATH": str(_CHECKOUT / "src"), **key, **self._environment}

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it with SIGTERM and return its exit code."""
        code = self._end(signal.SIGTERM)
        assert code is not None, "the API is not running"
        return code

    def _end(self, number: signal.Signals) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(number)
        return process.wait(ANSWER_SECONDS)

    def restart(self) -> None:
        """Start it again on its port and data, after `kill` or `stop`, or in place of the one that runs."""
        self.kill()
        self.start()

    # Requests

    def post(self, body: object, *, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Send any JSON body and return the status and JSON of the answer."""
        status, text = self.request("POST", "/", json.dumps(body).encode(), headers=headers)
        return status, json.loads(text)

    def request(
        self, method: str, path: str, body: bytes | None = None, *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Make one HTTP request on a connection of its own."""
        authorization = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        sent = {"Content-Type": "application/json", **authorization, **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def stats(self) -> dict[str, Any]:
        """Return the API's own counters: connections, requests, operations, and both by agent."""
        status, text = self.request("GET", "/stats")
        assert status == http.HTTPStatus.OK, text
        counters: dict[str, Any] = json.loads(text)
        return counters

    def count_requests(self, agent_id: str | None = None) -> int:
        """Return how many GraphQL requests came since the (re)start: all, or those of one agent ("": of none)."""
        counters = self.stats()
        if agent_id is None:
            return int(counters["requests"])
        return int(counters["agents"].get(agent_id, {"requests": 0})["requests"])
