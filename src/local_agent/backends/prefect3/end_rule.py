"""What an end means at the API: table T2, as functions of how the run stands. Nothing here asks anybody.

A bad end is always Crashed: the API refuses that over a final state, and accepts Failed and Cancelled there. To cancel
is Cancelling first, which is refused over a final state and which nothing but Cancelled leaves. So the API itself
settles who was first, this agent or the flow run's own last word, and nobody has to look a second time.
"""

from __future__ import annotations

import itertools
from enum import Enum
from typing import TYPE_CHECKING

from local_agent.backends.prefect3.claim_rule import is_held, owner
from local_agent.backends.prefect3.detail import IN_PROCESS
from local_agent.backends.prefect3.parse import Status
from local_agent.backends.prefect3.states import Kind, is_our_crash
from local_agent.model import Cause, CrashAction
from local_agent.wording import cost_sentence, sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_agent.backends.prefect3.parse import RunFacts, Verdict
    from local_agent.backends.prefect3.states import State
    from local_agent.model import CrashPolicy, End, Record

_BY_HAND = frozenset({Cause.CANCELLED, Cause.STOPPED})


class Word(Enum):
    """What is to be said of an end."""

    NOTHING = "nothing"
    NOT_OURS = "not ours"
    SAID = "said"  # by us, before: the answer was lost
    CANCEL = "cancel"  # Cancelling, then Cancelled
    CANCELLED = "cancelled"
    CRASHED = "crashed"
    AGAIN = "again"  # Crashed, then Scheduled
    ONLY_AGAIN = "only again"  # Crashed was said before
    WAIT = "wait"  # Scheduled: it never ran


def decide(facts: RunFacts | None, history: Sequence[State], record: Record, end: End, policy: CrashPolicy) -> Word:
    """Given a run read back and how its process ended, return what is to be said: table T2, row by row.

    `history` are its states, the oldest request first; it may be empty where the run is over or stands at our claim.
    """
    if facts is None:
        return Word.NOT_OURS
    if facts.state.kind.is_final:
        return _over(facts.state, history, record, end, policy)
    if not is_held(facts.state, record.nonce) and owner(history) != record.nonce:
        return Word.NOT_OURS
    if facts.state.kind is Kind.CANCELLING:
        return Word.CANCELLED
    if _is_brought_again(facts) or facts.state.kind is Kind.UNKNOWN:
        return Word.NOTHING
    if facts.state.kind is Kind.PENDING and end.cause is Cause.POWER_LOST:
        return Word.WAIT
    return Word.CANCEL if end.cause in _BY_HAND else _crash(history, end, policy)


def _over(state: State, history: Sequence[State], record: Record, end: End, policy: CrashPolicy) -> Word:
    """Say what is missing of a final state. The engines of some versions force Crashed where they are cancelled."""
    if is_our_crash(state, record.nonce):
        return Word.ONLY_AGAIN if _crash(history, end, policy) is Word.AGAIN else Word.SAID
    is_ours = owner(history) == record.nonce
    return Word.CANCELLED if state.kind is Kind.CRASHED and is_ours and _was_cancelled(history) else Word.NOTHING


def _was_cancelled(history: Sequence[State]) -> bool:
    """Tell whether somebody asked for an end since the run's newest claim."""
    since = itertools.takewhile(lambda state: not state.is_claim, reversed(history))
    return any(state.kind is Kind.CANCELLING for state in since)


def _is_brought_again(facts: RunFacts) -> bool:
    """Tell whether the queue hands the run out again by itself: it waits, and its process is not to run it again."""
    if facts.state.kind is Kind.PAUSED:
        return facts.state.is_suspended
    return facts.state.kind is Kind.SCHEDULED and facts.retry_type != IN_PROCESS


def _crash(history: Sequence[State], end: End, policy: CrashPolicy) -> Word:
    if policy.action is CrashAction.LEAVE:
        return Word.NOTHING
    may_again = policy.action is CrashAction.RESCHEDULE and end.cause is not Cause.DEADLINE
    return Word.AGAIN if may_again and times_again(history) < policy.times else Word.CRASHED


def times_again(history: Sequence[State]) -> int:
    """Return how many times an agent of this kind has started the run again after a crash."""
    return sum(state.is_again for state in history)


def needs_history(facts: RunFacts | None, record: Record, policy: CrashPolicy) -> bool:
    """Tell whether `decide` needs the run's states."""
    if facts is None:
        return False
    if policy.action is CrashAction.RESCHEDULE or facts.state.kind is Kind.CRASHED:
        return True
    return not facts.state.kind.is_final and not is_held(facts.state, record.nonce)


def came_first(verdict: Verdict) -> bool:
    """Given the answer to Crashed or Cancelling, tell whether the run was over before."""
    return verdict.status is Status.ABORT


def was_cancelled(verdict: Verdict) -> bool:
    """Given the answer to Crashed, tell whether somebody has cancelled the run meanwhile."""
    return verdict.status is Status.REJECT and verdict.state.kind is Kind.CANCELLING


def crash_message(facts: RunFacts, end: End) -> str:
    """Say how a run ended without a word: the cause, what it used, and the last lines of one that never began."""
    never_reported = facts.state.kind is Kind.PENDING
    if end.is_clean:
        return "Its process ended without ever reporting" if never_reported else "Its process ended in mid-run"
    cost = cost_sentence(end.cost)
    text = sentence(end) + (" before the flow started" if never_reported and end.cause is Cause.EXITED else "")
    text += f"; used {cost}" if cost else ""
    return text + ("; last lines:\n" + "\n".join(end.last_lines) if end.last_lines else "")


def cancel_message(end: End) -> str:
    """Say that a run that somebody cancelled has ended."""
    if end.is_clean:
        return "Cancelled"
    return sentence(end) if end.cause is Cause.CANCELLED else f"Cancelled. {sentence(end)}"
