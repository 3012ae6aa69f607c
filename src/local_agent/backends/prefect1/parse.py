"""Flow runs as the API's JSON has them -> FlowRun."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local_agent.backends.fields import (
    get_id,
    get_int,
    get_list,
    get_object,
    get_str,
    get_time,
    within,
)
from local_agent.backends.prefect1 import states
from local_agent.backends.prefect1.claim_rule import PastState, standing_claim
from local_agent.backends.prefect1.detail import Detail, RunConfig, WaitingTaskRun
from local_agent.model import FlowRun, RunState
from local_agent.plain import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A flow run read back: what tables T1 and T2 decide on."""

    id: str
    version: int
    state: str
    serialized_state: Mapping[str, Any]
    past: tuple[PastState, ...] = ()  # its newest states, newest first: at least the Submitted and the waiting ones
    task_runs: tuple[TaskRunFacts, ...] = field(default_factory=tuple)

    @property
    def meaning(self) -> RunState:
        """What its state means to an agent."""
        return states.meaning_of(self.state)

    def owner(self) -> str:
        """Return the nonce of the claim that counts, "" where there is none or it is another kind of agent's."""
        standing = standing_claim(self.past)
        return standing.nonce if standing else ""

    @property
    def submitted(self) -> tuple[PastState, ...]:
        """Its newest claims, newest first."""
        return tuple(past for past in self.past if past.is_claim)


@dataclass(frozen=True, slots=True)
class TaskRunFacts:
    """A task run read back."""

    id: str
    version: int
    state: Mapping[str, Any]
    recent: tuple[PastState, ...] = ()  # its newest states, newest first, where they were asked for

    @property
    def kind(self) -> str:
        """The name of its state."""
        return str(self.state.get("type", ""))


def flow_run(obj: Mapping[str, Any], read_at_seconds: float) -> FlowRun:
    """Given a flow run as `queries.flow_runs` asks for it, return it. Raise WrongFieldError with the field's path."""
    state = get_object(obj, "serialized_state")
    with within("serialized_state"):
        start = get_time(state, "start_time")
    flow, has_own_config = get_object(obj, "flow"), bool(obj.get("run_config"))
    with within("flow"):
        flow_id, flow_name = get_id(flow, "id"), short(get_str(flow, "name", ""))
        storage = get_object(flow, "storage", {})
        usual_config = RunConfig() if has_own_config else run_config(flow)
    with within("flow.storage"):
        storage_kind = get_str(storage, "type", "")
    is_running = get_str(obj, "state") == "Running"
    detail = Detail(
        version=get_int(obj, "version", 0),
        flow_id=flow_id,
        state=state,
        run_config=run_config(obj) if has_own_config else usual_config,
        storage=storage_kind,
        waiting_task_runs=get_list(obj, "task_runs", _waiting_task_run) if is_running else (),
    )
    return FlowRun(
        id=get_id(obj, "id"),
        name=short(get_str(obj, "name", "")),
        flow_name=flow_name,
        due=start or get_time(obj, "scheduled_start_time") or datetime.now(UTC),
        read_at_seconds=read_at_seconds,
        detail=detail,
    )


def run_config(obj: Mapping[str, Any]) -> RunConfig:
    """Given a flow run or a flow, return its run_config; a bare one where it has none."""
    config = get_object(obj, "run_config", {})
    with within("run_config"):
        env = get_object(config, "env", {})
        return RunConfig(
            kind=get_str(config, "type", ""),
            env={str(name): None if text is None else str(text) for name, text in env.items()},
            working_dir=get_str(config, "working_dir", "") or None,
        )


def run_facts(obj: Mapping[str, Any]) -> RunFacts:
    """Given a flow run as `queries.claims` or `queries.ends` asks for it, return it."""
    past = get_list(obj, "recent" if "recent" in obj else "states", _past_state)
    version, state = get_int(obj, "version", 0), get_str(obj, "state", "")
    serialized_state = get_object(obj, "serialized_state", {})
    return RunFacts(
        id=get_id(obj, "id"),
        version=version,
        state=state,
        serialized_state=serialized_state,
        past=tuple(_present_first(past, version, serialized_state, state)),
        task_runs=get_list(obj, "task_runs", task_run_facts) if "task_runs" in obj else (),
    )


def _present_first(past: Sequence[PastState], version: int, present: Mapping[str, Any], state: str) -> list[PastState]:
    """Given a run's history and its present state, return the history with that as the newest.

    Two states may have the same version: the Server's replicas read it and write the next one in two steps. The run
    itself then stands as the one that was written last says.
    """
    own = next((one for one in past if one.version == version and one.state == present), None)
    if own is None and (not past or (state == "Submitted" and past[0].state != present)):
        own = PastState(version, {**present, "type": state})
    return list(past) if own is None else [own, *(one for one in past if one is not own)]


def _past_state(obj: Mapping[str, Any]) -> PastState:
    return PastState(get_int(obj, "version", 0), get_object(obj, "serialized_state", {}), get_time(obj, "timestamp"))


def task_run_facts(obj: Mapping[str, Any]) -> TaskRunFacts:
    """Given a task run as JSON, return it."""
    return TaskRunFacts(
        id=get_id(obj, "id"),
        version=get_int(obj, "version", 0),
        state=get_object(obj, "serialized_state", {}),
        recent=get_list(obj, "recent", _past_state) if "recent" in obj else (),
    )


def _waiting_task_run(obj: Mapping[str, Any]) -> WaitingTaskRun:
    return WaitingTaskRun(get_id(obj, "id"), get_int(obj, "version", 0), get_object(obj, "serialized_state"))
