"""A real Prefect server as a child process, for tests: as `prefect server start` runs it, on a free port of loopback.

with Prefect3Server(tmp_path) as server:
    server.create_pool("lab")
    deployment = server.create_deployment("noop", pool="lab")
    run = server.create_run(deployment)
    assert server.state(run)["type"] == "SCHEDULED"
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.cache import SetUpError, loudly, made_once
from support.ports import ports_to_try
from support.prefect3_venv import NEWEST, VERSIONS, prefect3_python

START_SECONDS = 120.0  # on a machine that is busy
ANSWER_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_DATABASE = "prefect.db"
_TAKEN = "address already in use"
# what a server answers whose data file is locked: 503, or 500 before 3.1. Nothing was done then
LOCKED = (http.HTTPStatus.SERVICE_UNAVAILABLE, http.HTTPStatus.INTERNAL_SERVER_ERROR)
# the agent's own words and the machine's Prefect must not reach it
_NOT_INHERITED = ("PREFECT_", "LOCAL_AGENT_", "NOTIFY_")
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_UI_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
}


class RefusedError(Exception):
    """The server answered with something else than 2xx."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}")
        self.status = status


class Prefect3Server:
    """`version` of Prefect's server with a home of its own below `folder`. Usable from one thread."""

    def __init__(self, folder: Path, version: str = NEWEST, environment: Mapping[str, str] | None = None) -> None:
        self.python = prefect3_python(version)
        self.home = folder / "prefect-home"
        self._environment = environment or {}
        self._version = version
        self._console = folder / "prefect-server.console"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self.auth_string = self._environment.get("PREFECT_SERVER_API_AUTH_STRING", "")
        self._token: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.kill()

    # --- the process

    @property
    def root(self) -> str:
        """Its URL without the path of the API, for a proxy to stand before."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The URL of its API; the same after a restart."""
        return f"{self.root}/api"

    @property
    def console(self) -> str:
        """What it has printed."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def start(self) -> None:
        """Start it and return when it answers. Raise AssertionError with what it printed if it does not."""
        assert self._process is None, "the server is running"
        if not self.home.exists():
            self.home.mkdir(parents=True)
            shutil.copy(empty_database(self._version) / _DATABASE, self.home / _DATABASE)
        for port in ports_to_try(self._port):
            self._port = port
            if self._answers():
                return
            if _TAKEN not in self.console:
                break
        raise AssertionError(f"prefect's server did not start; it printed:\n{self.console[-3000:]}")

    def _answers(self) -> bool:
        command = _command(self.python, self._port)
        with self._console.open("ab") as console:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=server_environment(self.home) | dict(self._environment),
                cwd=self.home,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._is_healthy():
                return True
            time.sleep(_LOOK_SECONDS)
        self.kill()
        return False

    def _is_healthy(self) -> bool:
        try:
            return self.request("GET", "/health")[0] == http.HTTPStatus.OK
        except OSError:
            return False

    def kill(self) -> None:
        """End it with SIGKILL, if it runs: it has nothing to clean up but its home, which goes with the test's."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(ANSWER_SECONDS)

    # --- requests

    def request(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Make one HTTP request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        try:
            content = None if body is None else json.dumps(body).encode()
            sent = {"Content-Type": "application/json", **self._auth(), **(headers or {})}
            connection.request(method, f"/api{path}", content, sent)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _asked_token(self) -> dict[str, str]:
        client = "11111111-1111-4111-8111-111111111111"
        token = self.ask("GET", f"/csrf-token?client={client}")["token"]
        return {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}

    def _auth(self) -> dict[str, str]:
        if not self.auth_string:
            return {}
        return {"Authorization": f"Basic {base64.b64encode(self.auth_string.encode()).decode()}"}

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON is of any type
        """Make a request and return its JSON. A server whose data file is locked for a moment is asked again."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            status, text = self.request(method, path, body, self._token)
            if status in LOCKED and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)
                continue
            if status == http.HTTPStatus.FORBIDDEN and b"CSRF" in text and not self._token:
                self._token = self._asked_token()
                continue
            if not 200 <= status < 300:
                raise RefusedError(status, text.decode(errors="replace"))
            return json.loads(text) if text else None

    # --- making things

    def create_pool(self, name: str, kind: str = "process", **more: object) -> dict[str, Any]:
        """Make a work pool; `more` are fields of its own, e.g. `concurrency_limit`."""
        template = {"job_configuration": dict.fromkeys(_JOB, None), "variables": {"type": "object", "properties": {}}}
        for key in _JOB:
            template["job_configuration"][key] = "{{ " + key + " }}"  # type: ignore[index]
            template["variables"]["properties"][key] = _VARIABLES[key]  # type: ignore[index]
        body = {"name": name, "type": kind, "base_job_template": template, **more}
        pool: dict[str, Any] = self.ask("POST", "/work_pools/", body)
        return pool

    def create_deployment(self, name: str, *, pool: str, queue: str | None = None, **more: object) -> str:
        """Make a flow with a deployment of the same name and return the deployment's id."""
        flow = self.ask("POST", "/flows/", {"name": name})["id"]
        schema = {"type": "object", "properties": {}}  # without one, 3.0 makes no run of it
        where = {"work_pool_name": pool, "work_queue_name": queue}
        body = {"name": name, "flow_id": flow, "parameter_openapi_schema": schema, **where, **more}
        return str(self.ask("POST", "/deployments/", body)["id"])

    def create_run(self, deployment: str, *, due: datetime | None = None, **more: object) -> str:
        """Make a flow run that is due now, or when `due` says."""
        details = {"scheduled_time": due.isoformat()} if due else {}
        state = {"type": "SCHEDULED", "name": "Scheduled", "state_details": details}
        body = {"state": state, **more}
        return str(self.ask("POST", f"/deployments/{deployment}/create_flow_run", body)["id"])

    def set_state(self, run: str, kind: str, *, force: bool = False, **more: object) -> dict[str, Any]:
        """Set a state as anybody may, and return the server's answer."""
        answer: dict[str, Any] = self.ask(
            "POST", f"/flow_runs/{run}/set_state", {"state": {"type": kind, **more}, "force": force}
        )
        return answer

    # --- looking

    def run(self, run: str) -> dict[str, Any]:
        """Return a flow run."""
        found: dict[str, Any] = self.ask("GET", f"/flow_runs/{run}")
        return found

    def state(self, run: str) -> dict[str, Any]:
        """Return how a flow run stands."""
        found: dict[str, Any] = self.run(run)["state"]
        return found

    def history(self, run: str) -> list[str]:
        """Return the names of a run's states, the oldest request first."""
        return [state["name"] for state in self.ask("GET", f"/flow_run_states/?flow_run_id={run}")]

    def states(self, runs: Sequence[str]) -> dict[str, str]:
        """Return how runs stand, by id."""
        found = {}
        for begin in range(0, len(runs), 100):
            which = {"flow_runs": {"id": {"any_": list(runs[begin : begin + 100])}}, "limit": 100}
            found.update({run["id"]: run["state_type"] for run in self.ask("POST", "/flow_runs/filter", which)})
        return found

    def workers(self, pool: str) -> dict[str, str]:
        """Return the workers of a pool: name -> status."""
        rows = self.ask("POST", f"/work_pools/{pool}/workers/filter", {"limit": 200})
        return {row["name"]: row.get("status", "") for row in rows}

    def logs(self, run: str) -> list[str]:
        """Return the lines of a run's log."""
        which = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
        return [line["message"] for line in self.ask("POST", "/logs/filter", which)]

    def wait_for(self, run: str, *kinds: str, seconds: float = 120.0) -> dict[str, Any]:
        """Wait until a run stands at one of these kinds and return its state. Raise AssertionError if it does not."""
        found: dict[str, Any] = wait_until(
            lambda: self._stands_at(run, kinds), lambda: f"{run}: {self.history(run)}", seconds
        )
        return found

    def _stands_at(self, run: str, kinds: Sequence[str]) -> dict[str, Any] | None:
        state = self.state(run)
        return state if state["type"] in kinds else None


def wait_until(look: Callable[[], Any], tell: Callable[[], str], seconds: float = 120.0) -> Any:  # noqa: ANN401 - as look
    """Look until there is something to be seen and return it. Raise AssertionError with what `tell` says if not."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, tell()
        time.sleep(_LOOK_SECONDS)
    return found


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


def server_environment(home: Path) -> dict[str, str]:
    """Return the environment of a server, or of a client, that has its home there."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    database = f"sqlite+aiosqlite:///{home / _DATABASE}"
    own = {"HOME": str(home), "PREFECT_HOME": str(home), "PREFECT_API_DATABASE_CONNECTION_URL": database}
    return {**inherited, **_QUIET, **own}


def _command(python: Path, port: int) -> list[str]:
    """Return what `prefect server start` itself runs (3.9.1, cli/server.py)."""
    app = ["--factory", "prefect.server.api.server:create_app"]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    return [str(python), "-m", "uvicorn", *app, *where, "--timeout-keep-alive", "5", "--log-level", "warning"]


def empty_database(version: str) -> Path:
    """Return a folder with an empty data file of this version: to make one takes ten seconds."""
    return made_once(f"prefect-{version}-database", partial(_migrate, prefect3_python(version)))


def _migrate(python: Path, folder: Path) -> None:
    doing = "making an empty data file of Prefect's server"
    command = [python.with_name("prefect"), "server", "database", "upgrade", "-y"]
    loudly(doing, command, environment=server_environment(folder))
    # all of it in the one file that is copied
    checkpoint = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('pragma journal_mode=delete')"
    loudly(doing, [python, "-c", checkpoint, folder / _DATABASE])


_JOB = ("command", "env", "labels", "name", "stream_output", "working_dir")
_VARIABLES: Mapping[str, Mapping[str, Any]] = {
    "command": {"type": "string", "title": "Command"},
    "env": {"type": "object", "title": "Environment Variables", "additionalProperties": {"type": "string"}},
    "labels": {"type": "object", "title": "Labels", "additionalProperties": {"type": "string"}},
    "name": {"type": "string", "title": "Name"},
    "stream_output": {"type": "boolean", "title": "Stream Output", "default": True},
    "working_dir": {"type": "string", "title": "Working Directory"},
}


if __name__ == "__main__":
    try:
        for wanted in VERSIONS:
            empty_database(wanted)
    except SetUpError as error:
        sys.exit(f"error: {error}")
