"""Prefect 3's states: their types, their meaning to an agent, and the few that an agent writes.

A state has a type, of which there are nine, and a name, which people and automations see. `transition_id` in its
details is what a claim is known by: the server keeps it, and answers a repeat of the state that stands with that state.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from local_agent.model import RunState
from local_agent.plain import sendable

if TYPE_CHECKING:
    from collections.abc import Mapping

SUBMITTING = "Submitting"  # Prefect's own workers say so after their claim, with another transition id
_AGAIN = "; started again"


class Kind(Enum):
    """A state's type. One that this version does not know is nobody's to touch."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CRASHED = "CRASHED"
    UNKNOWN = ""

    @classmethod
    def _missing_(cls, _value: object) -> Kind:
        return cls.UNKNOWN

    @property
    def is_final(self) -> bool:
        """Whether nothing follows, unless somebody starts the flow run once more."""
        return self in _FINAL

    @property
    def meaning(self) -> RunState:
        """What it means to an agent."""
        return _MEANINGS.get(self, RunState.FINISHED)


_FINAL = frozenset({Kind.COMPLETED, Kind.FAILED, Kind.CRASHED, Kind.CANCELLED})
_MEANINGS = {
    Kind.SCHEDULED: RunState.WAITING,
    Kind.PENDING: RunState.SUBMITTED,
    Kind.RUNNING: RunState.RUNNING,
    Kind.PAUSED: RunState.RUNNING,  # its process lives, or ends by itself
    Kind.CANCELLING: RunState.CANCELLING,
    Kind.CANCELLED: RunState.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class State:
    """A state as the API tells it; `content` is all of it, to be set again as it was."""

    kind: Kind
    name: str = ""
    message: str = ""
    at: datetime | None = None  # when the request for it arrived: of two, the later one may have been set first
    transition_id: str = ""  # 32 hexadecimal digits
    scheduled: datetime | None = None
    is_suspended: bool = False  # paused, and its process ends: the queue brings it again when it is resumed
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_claim(self) -> bool:
        """Whether somebody took the flow run by it."""
        return self.kind is Kind.PENDING and self.name != SUBMITTING

    @property
    def is_again(self) -> bool:
        """Whether an agent of this kind started the flow run again by it, after a crash."""
        return self.kind is Kind.SCHEDULED and self.message.endswith(_AGAIN)


def pending(nonce: str, message: str) -> dict[str, Any]:
    """Return the state that claims a flow run; `nonce` is 32 hexadecimal digits."""
    return _state(Kind.PENDING, "Pending", message, transition_id=str(uuid.UUID(hex=nonce)))


def scheduled(start: datetime, message: str) -> dict[str, Any]:
    """Return the state that makes a claimed flow run wait again, until `start`."""
    return _state(Kind.SCHEDULED, "Scheduled", message, scheduled_time=start.isoformat())


def started_again(start: datetime, why: str) -> dict[str, Any]:
    """Return the state that starts a crashed flow run again; from it `State.is_again` is known."""
    return _state(Kind.SCHEDULED, "AwaitingRetry", f"{why}{_AGAIN}", scheduled_time=start.isoformat())


def crashed(message: str, nonce: str) -> dict[str, Any]:
    """Return the state of a flow run whose process ended without a word. Automations listen for its name."""
    return _state(Kind.CRASHED, "Crashed", message, transition_id=str(_end_id(nonce)))


def cancelling() -> dict[str, Any]:
    """Return the latch: the API refuses it over a final state, and only Cancelled gets past it."""
    return _state(Kind.CANCELLING, "Cancelling", "")


def cancelled(message: str) -> dict[str, Any]:
    """Return the state of a flow run that was cancelled and of which nothing lives."""
    return _state(Kind.CANCELLED, "Cancelled", message)


def is_our_crash(state: State, nonce: str) -> bool:
    """Tell whether a state is what `crashed` says of the claim with this nonce."""
    return state.kind is Kind.CRASHED and state.transition_id == _end_id(nonce).hex


def _end_id(nonce: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_URL, f"local-agent:end:{nonce}")


def _state(kind: Kind, name: str, message: str, **details: str) -> dict[str, Any]:
    return {"type": kind.value, "name": name, "message": sendable(message), "state_details": details}
