"""Flow runs as the API's JSON has them -> FlowRun."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local_agent.backends.prefect1 import states
from local_agent.backends.prefect1.fields import get_int, get_list, get_object, get_str, get_time, within
from local_agent.model import FlowRun, RunConfig, RunState, WaitingTaskRun

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A flow run read back: what tables T1 and T2 decide on."""

    id: str
    version: int
    state: str
    serialized_state: Mapping[str, Any]
    submitted: tuple[Mapping[str, Any], ...] = ()  # its newest Submitted states, newest first
    recent: tuple[PastState, ...] = ()  # its newest states of any kind, newest first
    task_runs: tuple[TaskRunFacts, ...] = field(default_factory=tuple)

    @property
    def meaning(self) -> RunState:
        """What its state means to an agent."""
        return states.meaning_of(self.state)

    def newest_claim(self) -> str:
        """Return the nonce of the newest Submitted state, "" where it has none or nobody claimed it."""
        if self.state == "Submitted":
            return states.nonce_of(self.serialized_state)
        return states.nonce_of(self.submitted[0]) if self.submitted else ""


@dataclass(frozen=True, slots=True)
class PastState:
    """A state of a run's history."""

    version: int
    state: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The state's name."""
        return str(self.state.get("type", ""))


@dataclass(frozen=True, slots=True)
class TaskRunFacts:
    """A task run read back."""

    id: str
    version: int
    state: Mapping[str, Any]

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
        flow_id, flow_name = get_str(flow, "id"), get_str(flow, "name", "")
        storage = get_object(flow, "storage", {})
        usual_config = RunConfig() if has_own_config else run_config(flow)
    with within("flow.storage"):
        storage_kind = get_str(storage, "type", "")
    is_running = get_str(obj, "state") == "Running"
    return FlowRun(
        id=get_str(obj, "id"),
        name=get_str(obj, "name", ""),
        version=get_int(obj, "version", 0),
        flow_id=flow_id,
        flow_name=flow_name,
        due=start or get_time(obj, "scheduled_start_time") or datetime.now(UTC),
        state=state,
        run_config=run_config(obj) if has_own_config else usual_config,
        storage=storage_kind,
        read_at_seconds=read_at_seconds,
        waiting_task_runs=get_list(obj, "task_runs", _waiting_task_run) if is_running else (),
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
    return RunFacts(
        id=get_str(obj, "id"),
        version=get_int(obj, "version", 0),
        state=get_str(obj, "state", ""),
        serialized_state=get_object(obj, "serialized_state", {}),
        submitted=get_list(obj, "states", lambda item: get_object(item, "serialized_state", {})),
        recent=get_list(obj, "recent", _past_state) if "recent" in obj else (),
        task_runs=get_list(obj, "task_runs", task_run_facts) if "task_runs" in obj else (),
    )


def _past_state(obj: Mapping[str, Any]) -> PastState:
    return PastState(get_int(obj, "version", 0), get_object(obj, "serialized_state", {}))


def task_run_facts(obj: Mapping[str, Any]) -> TaskRunFacts:
    """Given a task run as JSON, return it."""
    return TaskRunFacts(get_str(obj, "id"), get_int(obj, "version", 0), get_object(obj, "serialized_state", {}))


def _waiting_task_run(obj: Mapping[str, Any]) -> WaitingTaskRun:
    return WaitingTaskRun(get_str(obj, "id"), get_int(obj, "version", 0), get_object(obj, "serialized_state"))
