"""What tests say to an API: made easy, whatever the requests travel by."""

from __future__ import annotations

import json
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

WAIT_SECONDS = 60.0
CORE_VERSION = "1.4.1"
_MAX_AT_ONCE = 100
TRIVIAL_TASK = "noop-1"


class ApiError(Exception):
    """An answer with errors. `errors` has them as they came, `data` what came beside them."""

    def __init__(self, errors: list[dict[str, Any]], data: object) -> None:
        super().__init__("; ".join(error["message"] for error in errors))
        self.errors = errors
        self.data = data


class ApiClient(ABC):
    """Speaks to an API as Prefect and its users do."""

    def __init__(self) -> None:
        self._tenant_id = ""

    @abstractmethod
    def post(self, body: object, *, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Send any JSON body and return the status and JSON of the answer."""

    def graphql(
        self, query: str, variables: Mapping[str, Any] | None = None, *, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Send a request as Prefect does (variables as text) and return its data. Raise ApiError for errors."""
        _, answer = self.post({"query": query, "variables": json.dumps(variables)}, headers=headers)
        if answer.get("errors"):
            raise ApiError(answer["errors"], answer.get("data"))
        data: dict[str, Any] = answer["data"]
        return data

    def mutate(self, name: str, given: Mapping[str, Any], *, headers: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON is of any type
        """Do a mutation of one input and return its object (all of its fields that are not objects themselves)."""
        selection = _SELECTIONS.get(name, "{ id }")
        query = f"mutation($input: {name}_input!) {{ {name}(input: $input) {selection} }}"
        return self.graphql(query, {"input": given}, headers=headers)[name]

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
        """Create many flow runs in few requests and return their ids."""
        given = f'{{flow_id: "{flow_id}"'
        given += "}" if start_in is None else f', scheduled_start_time: "{moment(start_in)}"}}'
        ids: list[str] = []
        while left := count - len(ids):
            aliases = " ".join(
                f"a{number}: create_flow_run(input: {given}) {{ id }}" for number in range(min(left, _MAX_AT_ONCE))
            )
            ids += [created["id"] for created in self.graphql(f"mutation {{ {aliases} }}").values()]
        return ids

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
