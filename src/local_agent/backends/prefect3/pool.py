"""What the agent asks a Prefect 3 API for, route by route: JSON from `Api`, parsed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from local_agent.backends.fields import WrongFieldError, get_id, get_list, get_str
from local_agent.backends.prefect3 import parse
from local_agent.backends.prefect3.answers import is_missing, not_understood
from local_agent.errors import ApiRefusedError
from local_agent.plain import short

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from local_agent.backends.prefect3.api import Api
    from local_agent.backends.prefect3.parse import RunFacts, Verdict, WorkPool
    from local_agent.backends.prefect3.states import Kind, State

_Value = TypeVar("_Value")

MAX_RUNS = 200  # that the API tells in one answer
MAX_IN_BULK = 50  # that it sets the state of in one request
HEARTBEAT_SECONDS = 30.0
_BANNED = "/%&<>"  # a worker so named could register, and never sign off


def worker_name(name: str, host: str) -> str:
    """Return what an agent is called as a worker: prod1 on host1. What no name of the API may hold is replaced."""
    return "".join("-" if char in _BANNED else char for char in f"{name} on {host}")


class Pool:
    """A work pool as its worker `worker` sees it. Every method raises as `Api` does."""

    def __init__(self, api: Api, name: str, worker: str) -> None:
        self.name = name
        self.worker = worker
        self._api = api
        self._path = f"/work_pools/{quote(name, safe='')}"

    # --- the pool

    async def read(self) -> WorkPool:
        """Return the pool with its template."""
        return _understood(parse.work_pool, await self._api.get(self._path))

    async def heartbeat(self) -> None:
        """Tell that this worker lives."""
        body = {"name": self.worker, "heartbeat_interval_seconds": round(HEARTBEAT_SECONDS)}
        await self._api.post(f"{self._path}/workers/heartbeat", body)

    async def sign_off(self) -> None:
        """Tell that this worker is gone."""
        await self._api.delete(f"{self._path}/workers/{quote(self.worker, safe='')}")

    async def other_workers(self) -> tuple[str, ...]:
        """Return the names of the other workers of the pool that are ONLINE."""
        answer = await self._api.post(f"{self._path}/workers/filter", {"workers": None, "limit": MAX_RUNS})
        rows = _understood(_workers, answer)
        return tuple(name for name, status in rows if status != "OFFLINE" and name != self.worker)

    async def due(self, before: datetime, queues: Sequence[str], most: int) -> Any:  # noqa: ANN401 - any JSON
        """Return what the queues hand out, those of the pool where none are named: flow runs that start by `before`."""
        body = {"work_queue_names": list(queues), "scheduled_before": before.isoformat(), "limit": most}
        return await self._api.post(f"{self._path}/get_scheduled_flow_runs", body)

    async def flow_names(self, ids: Collection[str]) -> dict[str, str]:
        """Return the names of flows."""
        body = {"flows": {"id": {"any_": list(ids)}}, "limit": MAX_RUNS}
        return _understood(_names, await self._api.post("/flows/filter", body))

    # --- states

    async def set_state(self, run_id: str, state: Mapping[str, Any], *, force: bool = False) -> Verdict | None:
        """Set a run's state and return what the API made of it, None where it has no such run."""
        try:
            answer = await self._api.post(f"/flow_runs/{run_id}/set_state", {"state": dict(state), "force": force})
        except ApiRefusedError as error:
            if is_missing(error):
                return None
            raise
        return _understood(parse.verdict, answer)

    async def set_states(
        self, ids: Sequence[str], kinds: Sequence[Kind], state: Mapping[str, Any]
    ) -> dict[str, Verdict]:
        """Set the state of those of these runs that stand at one of these kinds, and return what came of each.

        The API looks once which runs do, and then sets one after another.
        """
        which = {"id": {"any_": list(ids)}, "state": {"type": {"any_": [kind.value for kind in kinds]}}}
        body = {"flow_runs": which, "state": dict(state), "limit": MAX_IN_BULK}
        return _understood(parse.bulk_verdicts, await self._api.post("/flow_runs/bulk_set_state", body))

    async def history(self, run_id: str) -> tuple[State, ...]:
        """Return a run's states, the oldest request first; none where the API has no such run."""
        return _understood(parse.history, await self._api.get(f"/flow_run_states/?flow_run_id={run_id}"))

    async def run(self, run_id: str) -> RunFacts | None:
        """Return a run as it stands, None where the API has no such run."""
        try:
            return _understood(parse.run_facts, await self._api.get(f"/flow_runs/{run_id}"))
        except ApiRefusedError as error:
            if is_missing(error):
                return None
            raise

    async def runs(self, ids: Sequence[str]) -> dict[str, RunFacts | WrongFieldError]:
        """Return at most `MAX_RUNS` runs as they stand, by id: those that the API has."""
        answer = await self._api.post(
            "/flow_runs/filter", {"flow_runs": {"id": {"any_": list(ids)}}, "limit": MAX_RUNS}
        )
        return _understood(lambda rows: parse.each_row(rows, parse.run_facts), answer)

    async def say_where(self, run_id: str, where: str) -> None:
        """Set a run's infrastructure_pid, or take it away with "": the API cancels what has none by itself."""
        await self._api.patch(f"/flow_runs/{run_id}", {"infrastructure_pid": where})

    async def label(self, run_id: str, labels: Mapping[str, str]) -> None:
        """Add labels to a run. Raise ApiRefusedError where the API is too old for them."""
        await self._api.patch(f"/flow_runs/{run_id}/labels", dict(labels))

    async def log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines to the logs of runs."""
        await self._api.post("/logs/", list(lines))

    # --- task runs

    async def parents(self, ids: Sequence[str]) -> dict[str, str]:
        """Return, for those of at most `MAX_RUNS` runs that a task run has created, the id of that one's flow run."""
        body = {"flow_runs": {"id": {"any_": list(ids)}}, "limit": MAX_RUNS}
        creators = _understood(_creators, await self._api.post("/flow_runs/filter", body))
        if not creators:
            return {}
        body = {"task_runs": {"id": {"any_": sorted(set(creators.values()))}}, "limit": MAX_RUNS}
        owners = _understood(_owners, await self._api.post("/task_runs/filter", body))
        return {run_id: owners[task_run] for run_id, task_run in creators.items() if task_run in owners}

    async def running_task_runs(self, run_id: str) -> tuple[str, ...]:
        """Return the ids of a run's task runs that stand at Running."""
        which = {
            "flow_runs": {"id": {"any_": [run_id]}},
            "task_runs": {"state": {"type": {"any_": ["RUNNING"]}}},
            "limit": MAX_RUNS,
        }
        answer = await self._api.post("/task_runs/filter", which)
        return tuple(_understood(lambda rows: parse.each_row(rows, lambda row: row), answer))

    async def set_task_run_state(self, task_run_id: str, state: Mapping[str, Any]) -> None:
        """Set the state of a task run."""
        await self._api.post(f"/task_runs/{task_run_id}/set_state", {"state": dict(state), "force": False})


def _workers(rows: object) -> tuple[tuple[str, str], ...]:
    return get_list({"workers": rows}, "workers", lambda row: (get_str(row, "name"), get_str(row, "status", "")))


def _creators(rows: object) -> dict[str, str]:
    pairs = get_list({"runs": rows}, "runs", lambda row: (get_id(row, "id"), get_str(row, "parent_task_run_id", "")))
    return {run_id: task_run for run_id, task_run in pairs if task_run}


def _owners(rows: object) -> dict[str, str]:
    pairs = get_list({"runs": rows}, "runs", lambda row: (get_id(row, "id"), get_str(row, "flow_run_id", "")))
    return {task_run: run_id for task_run, run_id in pairs if run_id}


def _names(rows: object) -> dict[str, str]:
    pairs = get_list({"flows": rows}, "flows", lambda row: (get_str(row, "id"), short(get_str(row, "name", ""))))
    return dict(pairs)


def _understood(parsed: Callable[[Any], _Value], answer: object) -> _Value:
    """Parse an answer, and raise NotUnderstoodError where it is not what was asked for."""
    try:
        return parsed(answer)
    except (WrongFieldError, TypeError, AttributeError) as error:
        raise not_understood(error) from error
