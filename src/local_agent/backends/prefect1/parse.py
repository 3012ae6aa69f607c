"""Flow runs as the API's JSON has them -> FlowRun."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local_agent.backends.prefect1 import states
from local_agent.backends.prefect1.fields import (
    get_id,
    get_int,
    get_list,
    get_object,
    get_str,
    get_time,
    within,
)
from local_agent.model import FlowRun, RunConfig, RunState, WaitingTaskRun
from local_agent.plain import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


TAKEOVER_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A flow run read back: what tables T1 and T2 decide on."""

    id: str
    version: int
    state: str
    serialized_state: Mapping[str, Any]
    submitted: tuple[PastState, ...] = ()  # its newest Submitted states, newest first
    waited: tuple[int, ...] = ()  # the versions of its newest waiting states, newest first
    recent: tuple[PastState, ...] = ()  # its newest states of any kind, newest first
    task_runs: tuple[TaskRunFacts, ...] = field(default_factory=tuple)

    @property
    def meaning(self) -> RunState:
        """What its state means to an agent."""
        return states.meaning_of(self.state)

    def newest_claim(self) -> str:
        """Return the nonce of the claim that counts, "" where there is none or it is another kind of agent's."""
        present = states.nonce_of(self.serialized_state)
        if self.state == "Submitted" and (not self.submitted or states.nonce_of(self.submitted[0].state) != present):
            return present
        return states.nonce_of(_standing_claim(self.submitted, self.waited).state) if self.submitted else ""


@dataclass(frozen=True, slots=True)
class PastState:
    """A state of a run's history; `at` is when the API set it, by its own clock."""

    version: int
    state: Mapping[str, Any]
    at: datetime | None = None

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
    return FlowRun(
        id=get_id(obj, "id"),
        name=short(get_str(obj, "name", "")),
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
    claims = get_list(obj, "states", _past_state)
    return RunFacts(
        id=get_id(obj, "id"),
        version=get_int(obj, "version", 0),
        state=get_str(obj, "state", ""),
        serialized_state=get_object(obj, "serialized_state", {}),
        submitted=tuple(past for past in claims if past.kind not in states.WAITING),
        waited=tuple(past.version for past in claims if past.kind in states.WAITING),
        recent=get_list(obj, "recent", _past_state) if "recent" in obj else (),
        task_runs=get_list(obj, "task_runs", task_run_facts) if "task_runs" in obj else (),
    )


def _standing_claim(claims: Sequence[PastState], waited: Sequence[int]) -> PastState:
    """Given claims, newest first, and the versions of waiting states, return the one of the newest claims that counts.

    Claims since the same waiting state are rivals: where the API has no lock there may be several. One that comes soon
    takes the run over: the older one's agent reads it before it starts anything. One that comes later comes too late,
    because by then the run may have been started. All agents read the same history and so agree, however long each was
    held up on its way.
    """
    since = max((version for version in waited if version < claims[0].version), default=0)
    rivals = [claims[0], *(claim for claim in claims[1:] if claim.version > since)]
    return functools.reduce(the_one_that_counts, rivals[::-1])


def the_one_that_counts(older: PastState, newer: PastState) -> PastState:
    """Given two claims of the same run or task run, return the one whose agent may start it."""
    # an agent of another kind carries no nonce and starts its run at once
    if not states.nonce_of(older.state) or not states.nonce_of(newer.state):
        return newer if states.nonce_of(older.state) else older
    if older.at is None or newer.at is None or states.nonce_of(older.state) == states.nonce_of(newer.state):
        return newer
    return newer if (newer.at - older.at).total_seconds() < TAKEOVER_SECONDS else older


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
