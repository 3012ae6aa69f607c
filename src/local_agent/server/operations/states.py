"""States: what a client may send, and what follows from it.

As on the real Server there is no check of transitions at all: any state may follow any other. What is checked is
said in `set_flow_run_state` and `set_task_run_state`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from local_agent.server.asking.request import Request, Steps
from local_agent.server.data import timestamps
from local_agent.server.data.reads import Row
from local_agent.server.data.tables import WAITING
from local_agent.server.input.json_text import JsonText, shortened, to_json
from local_agent.server.input.refusals import PartlyRefusedError, RefusedError

MAX_BYTES = 1_000_000
CORE_VERSION = "1.4.1"

FINISHED = frozenset(
    (
        "Finished",
        "Success",
        "Failed",
        "Cached",
        "Cancelled",
        "Looped",
        "Mapped",
        "Skipped",
        "TimedOut",
        "TriggerFailed",
        "ValidationFailed",
    )
)
RUNNING = frozenset(("Running", "Cancelling"))
OTHER = frozenset(("Pending", "Submitted", "ClientFailed"))
TYPES = FINISHED | RUNNING | OTHER | frozenset(WAITING)

# These end a run's clock; the others that count as finished do not (the real Server's trigger says so).
_ENDING = frozenset(("Success", "Failed", "Cached", "TimedOut", "Looped", "Cancelled"))

# What each type keeps besides what all keep; anything else that is sent is dropped.
_COMMON_FIELDS = ("context", "message", "_result", "cached_inputs")
_OWN_FIELDS: dict[str, tuple[str, ...]] = {
    "Submitted": ("state",),
    "ClientFailed": ("state",),
    "Queued": ("state", "start_time"),
    "Scheduled": ("start_time",),
    "Paused": ("start_time",),
    "Resume": ("start_time",),
    "Retrying": ("start_time", "run_count"),
    "Looped": ("loop_count",),
    "Cached": ("cached_parameters", "cached_result_expiration", "hashed_inputs"),
    "Mapped": ("n_map_states",),
}
NO_RESULT = {"__version__": CORE_VERSION, "type": "NoResultType"}


@dataclass(frozen=True)
class State:
    """A state as it is stored. `start_time` is set for waiting states only, and then may still be None (Paused)."""

    type: str
    message: str | None
    start_time: str | None
    serialized: dict[str, Any]

    @cached_property
    def text(self) -> JsonText:
        """The serialized state as JSON, which goes into the run and into its history."""
        return to_json(self.serialized)


def parse(value: object, now: str) -> State:
    """Given a state as a client sends it, return it as it is stored. Raise RefusedError for what the Server refuses."""
    if not isinstance(value, dict):
        raise RefusedError("A state must be an object")
    # The real Server counts the size of the text in memory, overhead included.
    if sys.getsizeof(to_json(value)) > MAX_BYTES:
        raise RefusedError("State payload is too large.")
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        raise RefusedError(f"{{'type': ['Unsupported value: {shortened(str(kind))}']}}")
    _check_common(value)
    kept = {name: value[name] for name in (*_COMMON_FIELDS, *_OWN_FIELDS.get(kind, ())) if name in value}
    serialized = {"context": {}, "message": None, "cached_inputs": {}, **kept}
    if kind == "Mapped":
        serialized.pop("_result", None)
    else:
        serialized.setdefault("_result", dict(NO_RESULT))
    start_time = None
    if "start_time" in _OWN_FIELDS.get(kind, ()):
        start_time = serialized["start_time"] = _start_time(kind, value.get("start_time"), now)
    serialized.update(__version__=value.get("__version__", CORE_VERSION), type=kind)
    return State(kind, serialized["message"], start_time, serialized)


def _check_common(value: dict[str, Any]) -> None:
    if "_result" in value and not isinstance(value["_result"], dict):
        raise RefusedError("{'_result': ['Field may not be null.']}")
    if not isinstance(value.get("message"), str | None):
        raise RefusedError("{'message': ['Not a valid string.']}")
    for name in ("context", "cached_inputs"):
        if not isinstance(value.get(name), dict | None):
            raise RefusedError(f"{{'{name}': ['Not a valid mapping type.']}}")


def _start_time(kind: str, given: object, now: str) -> str | None:
    if given is None:
        return None if kind == "Paused" else now
    try:
        return timestamps.normalise(given)
    except ValueError:
        raise RefusedError("{'start_time': ['Not a valid datetime.']}") from None


def made(kind: str, message: str, now: str, **more: object) -> State:
    """Return a state of the API's own making."""
    return parse({"type": kind, "message": message, **more}, now)


def set_flow_run_states(request: Request, given: dict[str, Any]) -> object:
    """Set states of flow runs. One that is refused fails the answer; the others are set all the same."""
    return _set_each(request, given["states"], _set_flow_run_state)


def set_task_run_states(request: Request, given: dict[str, Any]) -> object:
    """Set states of task runs, in the same way."""
    return _set_each(request, given["states"], _set_task_run_state)


_SetOne = Callable[[Request, dict[str, Any]], tuple[str, Iterator[None] | None]]
"""Sets a state; returns the run's id, and what follows from the state, if anything does."""


def _set_each(request: Request, states: Sequence[dict[str, Any]], set_one: _SetOne) -> object:
    if len(states) == 1:
        # As both Prefect and this agent send them: there are no others to be kept.
        run_id, following = set_one(request, states[0])
        answer = {"states": [_done(run_id)]}
        return answer if following is None else Steps(following, lambda: answer)
    done: list[dict[str, Any]] = []
    refused: list[RefusedError] = []

    def set_all() -> Iterator[None]:
        for each in states:
            try:
                with request.database.savepoint():
                    run_id, following = set_one(request, each)
            except RefusedError as error:
                refused.append(error)
            else:
                done.append(_done(run_id))
                yield from following or ()
            yield

    return Steps(set_all(), lambda: _all_done(done, refused))


def _all_done(done: list[dict[str, Any]], refused: list[RefusedError]) -> dict[str, Any]:
    if refused:
        raise PartlyRefusedError(str(refused[0])) from refused[0]
    return {"states": done}


def _done(run_id: str) -> dict[str, Any]:
    return {"id": run_id, "status": "SUCCESS", "message": None}


def _set_flow_run_state(request: Request, given: dict[str, Any]) -> tuple[str, Iterator[None] | None]:
    state, run_id = parse(given["state"], request.database.now()), str(given["flow_run_id"])
    set_flow_run_state(request, run_id, state)
    return run_id, _cancelling_task_runs(request, run_id, state) if state.type == "Cancelled" else None


def _set_task_run_state(request: Request, given: dict[str, Any]) -> tuple[str, None]:
    state = parse(given["state"], request.database.now())
    set_task_run_state(request, given["task_run_id"], state)
    return str(given["task_run_id"]), None


def set_flow_run_state(request: Request, flow_run_id: str, state: State) -> None:
    """Set a flow run's state, and nothing of what follows from it.

    Raise RefusedError if there is none, or if it was submitted less than 30 s ago.
    """
    database = request.database
    run = database.row("SELECT id, tenant_id, version, start_time, end_time FROM flow_run WHERE id = ?", (flow_run_id,))
    if run is None:
        raise RefusedError(f"State update failed for flow run ID {flow_run_id}")
    if state.type == "Submitted":
        _lock(request, flow_run_id)
    changes = _append(request, "flow_run", run, state)
    if state.type in RUNNING or state.type == "Submitted":
        changes["heartbeat"] = changes["state_timestamp"]
    if state.type == "Submitted" and _is_agent(request):
        changes["agent_id"] = request.agent_id
    database.update("flow_run", flow_run_id, **changes)


def _lock(request: Request, flow_run_id: str) -> None:
    if not request.submit_lock.add(flow_run_id):
        raise RefusedError("State update failed: this run has already been submitted.")
    # A claim that the disk had no place for was none: whoever was told so may try again at once.
    request.database.if_undone(lambda: request.submit_lock.discard(flow_run_id))


def _is_agent(request: Request) -> bool:
    return bool(request.agent_id and request.database.value("SELECT 1 FROM agent WHERE id = ?", (request.agent_id,)))


def _cancelling_task_runs(request: Request, flow_run_id: str, state: State) -> Iterator[None]:
    """Cancel the task runs of a flow run that is cancelled, by which nobody can set them Running meanwhile."""
    sql = "SELECT id, state FROM task_run WHERE flow_run_id = ?"
    for run in request.database.rows(sql, (flow_run_id,)):
        # some may have ended, or be gone, while others had their turn
        if request.database.value("SELECT state FROM task_run WHERE id = ?", (run["id"],)) not in {*FINISHED, None}:
            set_task_run_state(request, run["id"], state)
            yield


def set_task_run_state(request: Request, task_run_id: str, state: State) -> None:
    """Set a task run's state. Raise RefusedError if there is none, or if it would run while its flow run does not."""
    run = request.database.row(
        "SELECT t.id, t.tenant_id, t.version, t.start_time, t.end_time, t.serialized_state,"
        " f.id AS flow_run_id, f.state AS flow_run_state"
        " FROM task_run t JOIN flow_run f ON f.id = t.flow_run_id WHERE t.id = ?",
        (task_run_id,),
    )
    if run is None:
        raise RefusedError(f"State update failed for task run ID {task_run_id}")
    if state.type in RUNNING and run["flow_run_state"] != "Running":
        raise RefusedError(
            f"State update failed for task run ID {task_run_id}: provided a running state but associated flow run"
            f" {run['flow_run_id']} is not in a running state."
        )
    state = _with_cached_inputs(state, json.loads(run["serialized_state"] or "{}"))
    changes = _append(request, "task_run", run, state)
    if state.type in RUNNING:
        changes["heartbeat"] = changes["state_timestamp"]
    request.database.update("task_run", task_run_id, **changes)


def _with_cached_inputs(state: State, before: dict[str, Any]) -> State:
    carried = before.get("cached_inputs")
    if state.serialized.get("cached_inputs") or not carried:
        return state
    return replace(state, serialized={**state.serialized, "cached_inputs": carried})


def _append(request: Request, table: str, run: Row, state: State) -> dict[str, Any]:
    """Add a state to a run's history and return what changes in the run's own row."""
    version = run["version"] + 1
    now = insert_state(request, table, run["tenant_id"], run["id"], state, version)
    changes: dict[str, Any] = {
        "version": version,
        "state": state.type,
        "state_timestamp": now,
        "state_start_time": state.start_time,
        "state_message": state.message,
        "serialized_state": state.text,
    }
    if state.type == "Running":
        changes["start_time"] = run["start_time"] or now
    if state.type in _ENDING:
        changes["end_time"] = now
    return changes


def insert_state(request: Request, table: str, tenant_id: str, run_id: str, state: State, version: int) -> str:
    """Add a row to the history of a flow run or task run, and return its time."""
    now = request.database.now()
    request.database.insert(
        f"{table}_state",
        **{f"{table}_id": run_id},
        tenant_id=tenant_id,
        timestamp=now,
        state=state.type,
        version=version,
        message=state.message,
        start_time=state.start_time,
        serialized_state=state.text,
    )
    return now


def cancel_flow_run(request: Request, given: dict[str, Any]) -> object:
    """Cancel a flow run: at once if it has not begun, by way of Cancelling if it runs, not if it is finished."""
    kind, following = cancel(request, given["flow_run_id"], "Flow run is cancelled")
    return Steps(following, lambda: {"state": kind})


def cancel(request: Request, flow_run_id: str, message: str) -> tuple[str, Iterator[None]]:
    """Cancel a flow run; return its state, and the steps that follow. Raise RefusedError if there is none."""
    database = request.database
    current = database.value("SELECT state FROM flow_run WHERE id = ?", (flow_run_id,))
    if current is None:
        raise RefusedError(f"Invalid flow run ID: {flow_run_id}.")
    if current in FINISHED:
        return str(current), iter(())
    state = (
        made("Cancelling", "Flow run is cancelling", database.now())
        if current in RUNNING
        else made("Cancelled", message, database.now())
    )
    set_flow_run_state(request, flow_run_id, state)
    is_cancelled = state.type == "Cancelled"
    return state.type, _cancelling_task_runs(request, flow_run_id, state) if is_cancelled else iter(())
