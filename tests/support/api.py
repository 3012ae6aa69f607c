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
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
WAIT_SECONDS = 60.0
_LISTENS = "local-agent server listens on "
_TAKEN = "is taken by another program"
# Below the ports that the kernel gives to outgoing connections: while the API is down between kill and restart, its
# port must not become some connection's own (which, on loopback, may even be one that connects to itself).
_PORTS = range(12_000, 32_000)
_PORT_TRIES = 20
_CHECKOUT = Path(__file__).parents[2]

CORE_VERSION = "1.4.1"
TRIVIAL_TASK = "noop-1"


class ApiError(Exception):
    """An answer with errors. `errors` has them as they came, `data` what came beside them."""

    def __init__(self, errors: list[dict[str, Any]], data: object) -> None:
        super().__init__("; ".join(error["message"] for error in errors))
        self.errors = errors
        self.data = data


class Api:
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
        self.data = data
        self.key = key
        self._options = list(options)
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._tenant_id = ""

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
        for port in [self._port] if self._port else random.sample(_PORTS, k=_PORT_TRIES):
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
            if f"{_LISTENS}{self.url}\n" in self.console[already:]:
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

    def graphql(
        self, query: str, variables: Mapping[str, Any] | None = None, *, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Send a request as Prefect does (variables as text) and return its data. Raise ApiError for errors."""
        _, answer = self.post({"query": query, "variables": json.dumps(variables)}, headers=headers)
        if answer.get("errors"):
            raise ApiError(answer["errors"], answer.get("data"))
        data: dict[str, Any] = answer["data"]
        return data

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

    def mutate(self, name: str, given: Mapping[str, Any], *, headers: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401
        """Do a mutation of one input and return its object (all of its fields that are not objects themselves)."""
        selection = _SELECTIONS.get(name, "{ id }")
        query = f"mutation($input: {_INPUTS.get(name, f'{name}_input')}!) {{ {name}(input: $input) {selection} }}"
        return self.graphql(query, {"input": given}, headers=headers)[name]

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

    # Making things

    @property
    def tenant_id(self) -> str:
        """The tenant that everything belongs to."""
        if not self._tenant_id:
            self._tenant_id = self.graphql("{ tenant { id } }")["tenant"][0]["id"]
        return self._tenant_id

    def create_project(self, name: str = "tests") -> str:
        """Return the id of a project, made if it is not there."""
        found = self.graphql("query($n: String) { project(where: {name: {_eq: $n}}) { id } }", {"n": name})["project"]
        if found:
            return str(found[0]["id"])
        return str(self.mutate("create_project", {"name": name, "tenant_id": self.tenant_id})["id"])

    def create_flow(
        self,
        name: str = "noop",
        *,
        labels: Sequence[str] = (),
        run_config: Mapping[str, Any] | str | None = "LocalRun",
        storage: Mapping[str, Any] | None = None,
        tasks: Sequence[str] = (TRIVIAL_TASK,),
        project: str = "tests",
        **more: object,
    ) -> str:
        """Register a flow that nobody can run really, and return its id.

        `run_config` is a type with these labels, a whole run config (whose labels then count), or None. `tasks` are
        slugs. `more` goes into the serialized flow.
        """
        if isinstance(run_config, str):
            run_config = {**_RUN_CONFIGS[run_config], "type": run_config, "labels": list(labels)}
        serialized = {
            **serialized_flow(name, tasks),
            "run_config": run_config,
            "storage": storage or LOCAL_STORAGE,
            **more,
        }
        return self.register(serialized, project=project)

    def register(self, serialized: Mapping[str, Any], *, project: str = "tests") -> str:
        """Register a serialized flow and return its id."""
        given = {"serialized_flow": serialized, "project_id": self.create_project(project)}
        return str(self.mutate("create_flow", given)["id"])

    def create_flow_run(
        self, flow_id: str, *, start_in: float | None = None, name: str | None = None, **more: object
    ) -> str:
        """Create a flow run and return its id.

        It is due now, or `start_in` seconds from now. `more`: parameters, labels, run_config, context,
        idempotency_key, scheduled_start_time.
        """
        given: dict[str, Any] = {"flow_id": flow_id, "flow_run_name": name, **more}
        if start_in is not None:
            given["scheduled_start_time"] = moment(start_in)
        return str(self.mutate("create_flow_run", given)["id"])

    def create_flow_runs(self, flow_id: str, count: int, *, start_in: float | None = None) -> list[str]:
        """Create many flow runs in one request and return their ids."""
        given = f'{{flow_id: "{flow_id}"'
        given += "}" if start_in is None else f', scheduled_start_time: "{moment(start_in)}"}}'
        aliases = " ".join(f"a{number}: create_flow_run(input: {given}) {{ id }}" for number in range(count))
        return [created["id"] for created in self.graphql(f"mutation {{ {aliases} }}").values()] if count else []

    def register_agent(self, name: str = "other", labels: Sequence[str] = ()) -> str:
        """Register an agent, as another one than the one that is tested, and return its id."""
        given = {"type": "LocalAgent", "name": name, "labels": list(labels), "tenant_id": self.tenant_id}
        return str(self.mutate("register_agent", given)["id"])

    def delete_flow_run(self, flow_run_id: str) -> None:
        """Delete a flow run."""
        self.mutate("delete_flow_run", {"flow_run_id": flow_run_id})

    def set_state(
        self, flow_run_id: str, state: str | Mapping[str, Any], *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Set a flow run's state: a type, or a whole state."""
        given = {"states": [{"flow_run_id": flow_run_id, "version": None, "state": _state(state)}]}
        self.mutate("set_flow_run_states", given, headers=headers)

    def set_task_state(self, task_run_id: str, state: str | Mapping[str, Any]) -> None:
        """Set a task run's state."""
        given = {"states": [{"task_run_id": task_run_id, "version": None, "state": _state(state)}]}
        self.mutate("set_task_run_states", given)

    def cancel(self, flow_run_id: str) -> str:
        """Cancel a flow run, as `prefect cancel` does, and return the state that it is in then."""
        return str(self.mutate("cancel_flow_run", {"flow_run_id": flow_run_id})["state"])

    # Looking

    def flow_run(self, flow_run_id: str, fields: str = "id name state version agent_id heartbeat") -> dict[str, Any]:
        """Return fields (in GraphQL's words) of a flow run."""
        query = f"query($id: uuid!) {{ flow_run_by_pk(id: $id) {{ {fields} }} }}"
        found: dict[str, Any] | None = self.graphql(query, {"id": flow_run_id})["flow_run_by_pk"]
        assert found is not None, f"there is no flow run {flow_run_id}"
        return found

    def state(self, flow_run_id: str) -> str:
        """Return the type of a flow run's state."""
        return str(self.flow_run(flow_run_id, "state")["state"])

    def states_of(self, flow_run_ids: Sequence[str]) -> dict[str, str]:
        """Return the type of each flow run's state."""
        query = "query($ids: [uuid!]) { flow_run(where: {id: {_in: $ids}}) { id state } }"
        found = self.graphql(query, {"ids": list(flow_run_ids)})["flow_run"]
        return {run["id"]: run["state"] for run in found}

    def states(self, flow_run_id: str) -> list[dict[str, Any]]:
        """Return a flow run's whole history as serialized states, the first one first."""
        fields = "states(order_by: {version: asc}) { serialized_state }"
        return [row["serialized_state"] for row in self.flow_run(flow_run_id, fields)["states"]]

    def state_types(self, flow_run_id: str) -> list[str]:
        """Return the types of a flow run's history, the first one first."""
        return [state["type"] for state in self.states(flow_run_id)]

    def logs(self, flow_run_id: str) -> list[dict[str, Any]]:
        """Return a flow run's log lines: timestamp, name, level, message."""
        fields = "logs(order_by: [{timestamp: asc}, {created: asc}]) { timestamp name level message task_run_id }"
        logs: list[dict[str, Any]] = self.flow_run(flow_run_id, fields)["logs"]
        return logs

    def messages(self, flow_run_id: str) -> list[str]:
        """Return the messages in a flow run's log."""
        return [line["message"] for line in self.logs(flow_run_id)]

    def task_runs(self, flow_run_id: str) -> list[dict[str, Any]]:
        """Return a flow run's task runs: id, map_index, state, serialized_state, version, task slug."""
        fields = (
            "task_runs(order_by: [{created: asc}, {map_index: asc}])"
            " { id map_index state version serialized_state state_start_time task { id slug } }"
        )
        runs: list[dict[str, Any]] = self.flow_run(flow_run_id, fields)["task_runs"]
        return runs

    def queue(self, labels: Sequence[str] = (), *, before: str | None = None, agent_id: str = "") -> list[str]:
        """Ask for flow runs as an agent with these labels does, and return their ids."""
        given = {"tenant_id": self.tenant_id, "labels": list(labels), "before": before}
        headers = {"X-PREFECT-AGENT-ID": agent_id} if agent_id else None
        found: list[str] = self.mutate("get_runs_in_queue", given, headers=headers)["flow_run_ids"]
        return found

    def wait_for_state(self, flow_run_id: str, *states: str, seconds: float = WAIT_SECONDS) -> str:
        """Wait until a flow run is in one of these states and return it. Raise AssertionError with its history."""
        current = ""

        def reached() -> bool:
            nonlocal current
            current = self.state(flow_run_id)
            return current in states

        wait_until(reached, lambda: f"wanted {states}, but had {self.state_types(flow_run_id)}", seconds=seconds)
        return current


def wait_until(condition: Callable[[], object], explain: Callable[[], str], *, seconds: float = WAIT_SECONDS) -> None:
    """Wait until a condition holds. Raise AssertionError with the explanation if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {explain()}")
        time.sleep(0.05)


def moment(seconds_from_now: float) -> str:
    """Return a time as the API takes it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds_from_now)).isoformat()


LOCAL_STORAGE: dict[str, Any] = {
    "type": "Local",
    "directory": "/nonexistent/flows",
    "flows": {},
    "secrets": [],
    "path": None,
    "stored_as_script": False,
    "__version__": CORE_VERSION,
}
_RUN_CONFIGS: dict[str, dict[str, Any]] = {
    "LocalRun": {"env": None, "working_dir": None, "__version__": CORE_VERSION},
    "UniversalRun": {"env": None, "__version__": CORE_VERSION},
    "DockerRun": {"env": None, "image": "python:3.11", "__version__": CORE_VERSION},
    "KubernetesRun": {"env": None, "image": "python:3.11", "__version__": CORE_VERSION},
}


def serialized_flow(name: str, tasks: Sequence[str] = (TRIVIAL_TASK,)) -> dict[str, Any]:
    """Return a flow of independent tasks as Prefect serializes it, without run config and storage."""
    return {
        "name": name,
        "type": "prefect.core.flow.Flow",
        "schedule": None,
        "parameters": [],
        "reference_tasks": [],
        "tasks": [_task(slug) for slug in tasks],
        "edges": [],
        "environment": None,
        "__version__": CORE_VERSION,
    }


def _task(slug: str) -> dict[str, Any]:
    return {
        "type": "prefect.tasks.core.function.FunctionTask",
        "name": slug.rsplit("-", 1)[0],
        "slug": slug,
        "tags": [],
        "max_retries": 0,
        "retry_delay": None,
        "trigger": {"fn": "prefect.triggers.all_successful", "kwargs": {}},
        "cache_key": None,
        "auto_generated": False,
        "__version__": CORE_VERSION,
    }


def _state(state: str | Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": state, "message": f"set to {state} by a test"} if isinstance(state, str) else state


def new_id() -> str:
    """Return an id that nothing has."""
    return str(uuid.uuid4())


_SUCCESS = "{ success error }"
_SELECTIONS = {
    "set_flow_run_states": "{ states { id status message } }",
    "set_task_run_states": "{ states { id status message } }",
    "cancel_flow_run": "{ state }",
    "get_runs_in_queue": "{ flow_run_ids }",
    "get_or_create_task_run_info": "{ id version state serialized_state }",
    "register_tasks": _SUCCESS,
    "register_edges": _SUCCESS,
    "archive_flow": _SUCCESS,
    "set_schedule_active": _SUCCESS,
    "set_schedule_inactive": _SUCCESS,
    "set_flow_group_labels": _SUCCESS,
    "set_flow_group_run_config": _SUCCESS,
    "set_flow_run_name": _SUCCESS,
    "set_task_run_name": _SUCCESS,
    "update_flow_run_heartbeat": _SUCCESS,
    "update_task_run_heartbeat": _SUCCESS,
    "delete_flow_run": _SUCCESS,
    "delete_flow": _SUCCESS,
    "delete_project": _SUCCESS,
    "write_run_logs": _SUCCESS,
    "update_task_run_artifact": _SUCCESS,
    "delete_task_run_artifact": _SUCCESS,
    "set_secret": _SUCCESS,
    "delete_secret": _SUCCESS,
}
_INPUTS = {"archive_flow": "flow_input", "delete_flow": "flow_input"}
