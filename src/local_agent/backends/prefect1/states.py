"""Prefect 1's states: their names, their meaning to an agent, and the few that an agent writes.

The JSON is that of prefect 1.4.1's StateSchema; the Server loads states with it and keeps `context`, where the nonce
of a claim lies, but drops top-level keys that it does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_agent.model import RunState
from local_agent.plain import sendable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

WAITING = frozenset({"Scheduled", "Paused", "Queued", "Resume", "Retrying", "Pending"})
FINISHED = frozenset(
    {
        "Finished",
        "Success",
        "Failed",
        "Cached",
        "Looped",
        "Mapped",
        "Skipped",
        "TimedOut",
        "TriggerFailed",
        "ValidationFailed",
    }
)
# task runs in these are waited for by somebody: a process that ended with exit code 0 left them on purpose
TASK_WAITING = frozenset({"Scheduled", "Retrying", "Paused", "Resume", "Queued", "Submitted"})

_NONCE_KEY = "local_agent_nonce"
_ATTEMPT_KEY = "local_agent_attempt"
_VERSION = "1.4.1"
_NO_RESULT = {"__version__": _VERSION, "type": "NoResultType"}


def meaning_of(state: str | None) -> RunState:
    """Given the name of a state, return what it means to an agent. A name that we do not know is not ours to touch."""
    if state in WAITING:
        return RunState.WAITING
    plain = {
        "Submitted": RunState.SUBMITTED,
        "Running": RunState.RUNNING,
        "Cancelling": RunState.CANCELLING,
        "Cancelled": RunState.CANCELLED,
    }
    return plain.get(state or "", RunState.FINISHED)


def submitted(waiting: Mapping[str, Any], nonce: str, *, message: str = "Submitted for execution") -> dict[str, Any]:
    """Return a Submitted state that wraps the waiting one, as the child needs it, and carries the claim's nonce."""
    attempt = attempt_of(waiting)
    context = {_NONCE_KEY: nonce} | ({_ATTEMPT_KEY: attempt} if attempt else {})
    return _state("Submitted", message, context=context, state=dict(waiting))


def scheduled(start: datetime, message: str, *, attempt: int = 0, nonce: str = "") -> dict[str, Any]:
    """Return a Scheduled state that starts at `start`. Always with a start time: some servers need one.

    `nonce` is that of the claim which is over, so that its agent knows this state for its own.
    """
    context = ({_NONCE_KEY: nonce} if nonce else {}) | ({_ATTEMPT_KEY: attempt} if attempt else {})
    return _state("Scheduled", message, context=context, start_time=start.isoformat())


def pending(message: str) -> dict[str, Any]:
    """Return a Pending state: a task run in it runs again when its flow run does."""
    return _state("Pending", message)


def final(kind: str, message: str, nonce: str) -> dict[str, Any]:
    """Return a final state of the given kind that the agent writes; the nonce in it tells it from the child's own."""
    return {"type": kind, "message": sendable(message), "context": {_NONCE_KEY: nonce}, "__version__": _VERSION}


def nonce_of(state: Mapping[str, Any]) -> str:
    """Return the nonce that a state carries, "" where it carries none."""
    return str(_context(state).get(_NONCE_KEY, ""))


def carrying(state: Mapping[str, Any], nonce: str) -> dict[str, Any]:
    """Return a state that carries this nonce, and is the same but for it."""
    return {**state, "context": {**_context(state), _NONCE_KEY: nonce}}


def attempt_of(state: Mapping[str, Any]) -> int:
    """Return how many times the run was started again after a crash, as its state remembers it."""
    value = _context(state).get(_ATTEMPT_KEY, 0)
    return value if isinstance(value, int) else 0


def _context(state: Mapping[str, Any]) -> Mapping[str, Any]:
    context = state.get("context")
    return context if isinstance(context, dict) else {}


def _state(kind: str, message: str, *, context: Mapping[str, Any] | None = None, **more: object) -> dict[str, Any]:
    return {
        "type": kind,
        "message": sendable(message),
        "context": dict(context or {}),
        "cached_inputs": {},
        "_result": dict(_NO_RESULT),
        "__version__": _VERSION,
        **more,
    }
