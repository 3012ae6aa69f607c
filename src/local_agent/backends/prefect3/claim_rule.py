"""What a claim has come to: table T1, as functions of what the API said. Nothing here asks anybody.

The nonce is the transition id of Pending. Two things are never taken on trust. That Pending was accepted does not prove
that the run waited: the API accepts it over a final state, too. And the order of a history is that in which requests
arrived: what was set last is only what the run itself stands at.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from local_agent.backends.prefect3.parse import Status
from local_agent.backends.prefect3.states import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from local_agent.backends.prefect3.parse import Verdict
    from local_agent.backends.prefect3.states import State


class Said(Enum):
    """What an answer to a claim says."""

    OURS = "ours"  # it stands at our claim
    LOST = "lost"
    UNKNOWN = "unknown"  # no answer: the same is to be sent again


def judged(verdict: Verdict | None, nonce: str) -> Said:
    """Given the answer to a claim, None where the API left the run out or knows none, return what it says."""
    if verdict is None:
        return Said.LOST
    if verdict.status is Status.ABORT and verdict.state.kind is Kind.UNKNOWN:
        return Said.UNKNOWN  # the API's own fault in the middle of many runs, e.g. "database is locked"
    is_ours = is_held(verdict.state, nonce) and verdict.status in (Status.ACCEPT, Status.REJECT)
    return Said.OURS if is_ours else Said.LOST


def is_held(state: State, nonce: str) -> bool:
    """Tell whether a run stands at the claim with this nonce."""
    return state.kind is Kind.PENDING and state.transition_id == nonce


def owner(history: Sequence[State]) -> str:
    """Given a run's states, the oldest request first, return the nonce of its newest claim, "" where it has none."""
    return next((state.transition_id for state in reversed(history) if state.is_claim), "")


@dataclass(frozen=True, slots=True)
class Beneath:
    """Another's claim since the run last waited, and what the run is to stand at again."""

    nonce: str
    restore: Mapping[str, Any]


def beneath(history: Sequence[State], nonce: str) -> Beneath | None:
    """Given a run's states, the oldest request first, return whose the run is where it is not ours.

    It is the other's if, since it was last made to wait, there is a claim beside ours. Theirs came first, for theirs
    would have been refused over ours: their run has begun, and ended before ours was accepted.
    """
    since = _since_it_waited(history)
    others = [state for state in since if state.is_claim and state.transition_id != nonce]
    if not others:
        return None
    finals = [state for state in since if state.kind.is_final]
    return Beneath(others[-1].transition_id, again((finals or others)[-1]))


def again(state: State) -> dict[str, Any]:
    """Return a state of the history as it is to be set once more."""
    kept = ("type", "name", "message", "data", "state_details")
    return {name: state.content[name] for name in kept if state.content.get(name) is not None}


def _since_it_waited(history: Sequence[State]) -> Sequence[State]:
    last = max((index for index, state in enumerate(history) if state.kind is Kind.SCHEDULED), default=-1)
    return history[last + 1 :]
