"""The API's JSON -> what the agent reads of it. Nothing that an API may answer raises anything but WrongFieldError."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from local_agent.backends.fields import (
    WrongFieldError,
    get_id,
    get_list,
    get_object,
    get_str,
    get_time,
    within,
)
from local_agent.backends.prefect3.detail import Detail
from local_agent.backends.prefect3.states import Kind, State
from local_agent.model import FlowRun
from local_agent.plain import short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_Json = Any
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class WorkPool:
    """A work pool: its template of a job is what deployments and flow runs fill in."""

    id: str
    name: str
    kind: str
    template: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A flow run read back: what tables T1 and T2 decide on."""

    id: str
    state: State
    retry_type: str = ""
    infrastructure_pid: str = ""


class Status(Enum):
    """What the API answers to a state that is to be set."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"  # the API set another state in its place, or left the one that stands
    ABORT = "ABORT"  # nothing was set
    WAIT = "WAIT"  # not yet


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a state that was to be set: `state` is how the run stands after it."""

    status: Status
    state: State
    reason: str = ""


def work_pool(obj: Mapping[str, _Json]) -> WorkPool:
    """Given a work pool as the API has it, return it."""
    return WorkPool(
        get_id(obj, "id"),
        short(get_str(obj, "name")),
        short(get_str(obj, "type")),
        get_object(obj, "base_job_template", {}),
    )


def state(obj: Mapping[str, _Json] | None) -> State:
    """Given a state, return it. A flow run may have none yet."""
    if obj is None:
        return State(Kind.UNKNOWN)
    details = get_object(obj, "state_details", {})
    with within("state_details"):
        transition_id, scheduled = _digits(details, "transition_id"), get_time(details, "scheduled_time")
    return State(
        kind=Kind(get_str(obj, "type")),
        name=short(get_str(obj, "name", "")),
        message=get_str(obj, "message", ""),
        at=get_time(obj, "timestamp"),
        transition_id=transition_id,
        scheduled=scheduled,
        is_suspended=details.get("pause_reschedule") is True,
        content=obj,
    )


def history(answer: _Json) -> tuple[State, ...]:
    """Given the states of a flow run, return them, the oldest request first."""
    states = get_list({"states": answer}, "states", state)
    return tuple(sorted(states, key=lambda one: one.at or datetime.min.replace(tzinfo=UTC)))


def run_facts(obj: Mapping[str, _Json]) -> RunFacts:
    """Given a flow run, return what is decided on."""
    run_id, own, policy = get_id(obj, "id"), get_object(obj, "state", {}), get_object(obj, "empirical_policy", {})
    with within("state"):
        its_state = state(own or None)
    with within("empirical_policy"):
        retry_type = get_str(policy, "retry_type", "")
    return RunFacts(run_id, its_state, retry_type, get_str(obj, "infrastructure_pid", ""))


def due_run(obj: Mapping[str, _Json], read_at_seconds: float) -> FlowRun:
    """Given a flow run as the queue has it, with its `Detail`, return it."""
    facts = run_facts(obj)
    return FlowRun(
        id=facts.id,
        name=short(get_str(obj, "name", "")),
        flow_name="",  # the API tells it apart
        due=facts.state.scheduled or get_time(obj, "next_scheduled_start_time") or datetime.now(UTC),
        read_at_seconds=read_at_seconds,
        detail=Detail(
            flow_id=get_id(obj, "flow_id"),
            deployment_id=get_id(obj, "deployment_id") if obj.get("deployment_id") is not None else "",
            job_variables=get_object(obj, "job_variables", {}),
            retry_type=facts.retry_type,
        ),
    )


def verdict(obj: Mapping[str, _Json]) -> Verdict:
    """Given the answer to a state that was to be set, return it."""
    status = get_str(obj, "status")
    if status not in Status.__members__:
        raise WrongFieldError(f"status: {short(status, 60)!r} is none")
    details = get_object(obj, "details", {})
    own = get_object(obj, "state", {})
    with within("state"):
        its_state = state(own or None)
    with within("details"):
        return Verdict(Status[status], its_state, short(get_str(details, "reason", "")))


def bulk_verdicts(answer: _Json) -> dict[str, Verdict]:
    """Given the answer to a state that was to be set for many runs, return what it says by the runs' ids."""
    results = get_list(answer, "results", lambda one: (get_id(one, "flow_run_id"), verdict(one)))
    return dict(results)


def each_row(answer: _Json, parse: Callable[[Any], _Value]) -> dict[str, _Value | WrongFieldError]:
    """Given a list of flow runs, return by id what `parse` makes of each, or what is wrong with it alone.

    Raise WrongFieldError where it is no list, or nobody knows whose a row is.
    """

    def parsed(row: Any) -> tuple[str, _Value | WrongFieldError]:  # noqa: ANN401 - any JSON
        row_id = get_id(row, "id")
        try:
            return row_id, parse(row)
        except WrongFieldError as error:
            return row_id, error
        except (TypeError, AttributeError) as error:
            return row_id, WrongFieldError(str(error))

    return dict(get_list({"rows": answer}, "rows", parsed))


def _digits(obj: Mapping[str, _Json], key: str) -> str:
    """Return the UUID at `key` as 32 digits, "" where there is none."""
    text = get_str(obj, key, "")
    try:
        return uuid.UUID(text).hex if text else ""
    except ValueError as error:
        raise WrongFieldError(f"{key}: {short(text, 60)!r} is no UUID") from error
