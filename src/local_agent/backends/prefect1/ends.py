"""What an end means at the API, and telling it: table T2 in docs/design/ends.md. Most ends need no word."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from local_agent.aio.clock import Backoff
from local_agent.backends.fields import get_list, get_object
from local_agent.backends.prefect1 import queries, states
from local_agent.backends.prefect1.claim_rule import hidden_end
from local_agent.backends.prefect1.detail import ticket_of
from local_agent.backends.prefect1.parse import run_facts
from local_agent.backends.prefect1.writer import MAX_READ, RunReader, StateChange, StateWriter
from local_agent.errors import ApiRefusedError, UnavailableError
from local_agent.model import Cause, CrashAction, Outcome, RunState, Step
from local_agent.wording import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from local_agent.aio.clock import Clock
    from local_agent.backends.prefect1.parse import RunFacts
    from local_agent.backends.prefect1.transport import Transport
    from local_agent.model import CrashPolicy, End, Record

# the Server refuses a second Submitted for 30 s after the first, whatever came between
_SUBMIT_LOCK = timedelta(seconds=31)
_LAST_WORD_SECONDS = 0.3  # a killed process may have sent its last report just before
_SECOND_LOOK_SECONDS = 2.0
_LOOKS = 5
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.5, 4.0
# nobody takes a run that is started again before it was looked at again
_AGAIN = timedelta(seconds=3)
_GATHER_SECONDS = 0.35  # ends that come close together share their requests; an end may take a second to be told
_BEGAN_EARLY = "It did not run: this machine's clock stood before its start time when its process looked at it"


@dataclass(frozen=True, slots=True)
class Decision:
    """What an end comes to, and the states to set for it, task runs first."""

    outcome: Outcome
    changes: tuple[StateChange, ...] = ()


class Ends:
    """Reports ends; `timeout_seconds` is how long an unanswered request may still land."""

    def __init__(self, transport: Transport, clock: Clock, *, timeout_seconds: float) -> None:
        self._transport = transport
        self._writer = StateWriter(transport, clock.monotonic, most=MAX_READ)
        self._reader = RunReader(transport, queries.ends, run_facts, clock.monotonic, _GATHER_SECONDS)
        self._histories = RunReader(transport, queries.histories, _history, clock.monotonic)
        self._clock = clock
        self._timeout_seconds = timeout_seconds

    @property
    def trouble(self) -> str:
        """What has kept ends from being told lately, "" where nothing has."""
        return self._writer.trouble

    async def report(self, record: Record, end: End, policy: CrashPolicy) -> Outcome:
        """Tell the API of an end, if it needs telling. To be called when nothing of the run lives any more.

        Raise ApiUnreachableError while the API does not answer: to ask again is harmless.
        """
        await self._clock.sleep(_LAST_WORD_SECONDS)  # clean ends, too: what is due for launch goes first
        facts = await self._reader.read(record.id)
        decision = decide(facts, record, end, policy, self._earliest_start(record, facts))
        if decision.changes and decision.outcome is Outcome.RESCHEDULED:
            await self._writer.write_and_let_land(decision.changes, self._clock, self._timeout_seconds)
        elif decision.changes:
            await self._writer.tell(decision.changes)
        if decision.outcome is Outcome.RESCHEDULED:
            await self._look_again(record)
        if decision.outcome in (Outcome.REPORTED, Outcome.RESCHEDULED) and not end.is_clean:
            await self._clock.sleep(_SECOND_LOOK_SECONDS)
            await self._look_again(record)
        return decision.outcome

    async def _look_again(self, record: Record) -> None:
        """See that nothing was overwritten. A few faults do not send it back to the beginning: the run waits for it."""
        backoff = Backoff(_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)
        for _ in range(_LOOKS - 1):
            try:
                return await self._let_the_flow_have_the_last_word(record)
            except (UnavailableError, ApiRefusedError):
                await self._clock.sleep(backoff.next_seconds())
        return await self._let_the_flow_have_the_last_word(record)

    def _earliest_start(self, record: Record, facts: RunFacts | None) -> datetime:
        """Return from when on the run may be started again, where it is to be, by the API's clock.

        What an earlier process of this agent has sent may still land. It must not make a run wait that runs by then.
        """
        now = self._transport.api_clock.now()
        may_land = timedelta(seconds=self._timeout_seconds) if record.step is Step.ENDED else _AGAIN
        return max(now + max(may_land, _AGAIN), lock_is_over(facts, now))

    async def _let_the_flow_have_the_last_word(self, record: Record) -> None:
        """A killed process's own report can land after ours was decided: where it did, it counts and ours does not."""
        history = await self._histories.read(record.id) or ()
        last = overwritten_state(history, record.nonce) or buried_state(history, record.nonce)
        if last is not None:
            await self._writer.write([StateChange(record.id, 0, last)])


def _history(run: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    return get_list(run, "states", lambda item: get_object(item, "serialized_state", {}))


def lock_is_over(facts: RunFacts | None, now: datetime) -> datetime:
    """Return from when on a claimed run can be claimed again: by the API's clock, which has set the claim's time.

    `now` is the API's, and counts where that clock was set back meanwhile or tells of no claim.
    """
    claimed_at = facts.submitted[0].at if facts is not None and facts.submitted else None
    was_set_back = claimed_at is not None and claimed_at > now + _AGAIN  # `now` may be a second off
    return (now if claimed_at is None or was_set_back else claimed_at) + _SUBMIT_LOCK


def overwritten_state(history: Sequence[Mapping[str, Any]], nonce: str) -> Mapping[str, Any] | None:
    """Given a run's states, newest first, return what counts in place of ours on top, if something does.

    The flow's own final state, or somebody's Cancelled, that came between our read and our write. Where the run was
    made to wait it must not run again although it was being cancelled.
    """
    if not history or states.nonce_of(history[0]) != nonce or history[0].get("type") == "Submitted":
        return None
    for state in history[1:]:
        kind, is_ours = str(state.get("type", "")), states.nonce_of(state) == nonce
        if kind == "Submitted":
            return None
        if kind == "Cancelling" and history[0].get("type") == "Scheduled":
            return states.final("Cancelled", "Cancelled", nonce)
        if not is_ours and (kind in states.FINISHED or kind == "Cancelled"):
            return state
    return None


def buried_state(history: Sequence[Mapping[str, Any]], nonce: str) -> Mapping[str, Any] | None:
    """Given a run's states, newest first, return ours where a dead process's late Running lies on it."""
    if len(history) < 2 or history[0].get("type") != "Running":
        return None
    return history[1] if states.nonce_of(history[1]) == nonce and history[1].get("type") != "Submitted" else None


def decide(facts: RunFacts | None, record: Record, end: End, policy: CrashPolicy, start: datetime) -> Decision:
    """Given a run read back and how its process ended, decide what to set: table T2, row by row.

    `start` is when the run starts again if it comes to that.
    """
    if facts is None:
        return Decision(Outcome.NOT_OURS)
    is_set_by_us = states.nonce_of(facts.serialized_state) == record.nonce
    if facts.meaning in (RunState.FINISHED, RunState.CANCELLED):
        return Decision(Outcome.REPORTED if is_set_by_us else Outcome.NOTHING_TO_SAY)
    if not ticket_of(record).task_runs and facts.owner() != record.nonce:
        return Decision(Outcome.NOT_OURS)
    if facts.meaning is RunState.WAITING:
        return Decision(Outcome.RESCHEDULED if is_set_by_us else Outcome.NOTHING_TO_SAY)
    hidden = hidden_end(facts.past)
    if hidden is not None:
        outcome = Outcome.REPORTED if hidden.nonce == record.nonce else Outcome.NOTHING_TO_SAY
        return Decision(outcome, (StateChange(record.id, facts.version, hidden.state),))
    return _decide_unfinished(facts, record, end, policy, start)


def _decide_unfinished(facts: RunFacts, record: Record, end: End, policy: CrashPolicy, start: datetime) -> Decision:
    if facts.meaning is RunState.CANCELLING:
        return _finish(facts, record, "Cancelled", _cancelled(end))
    if facts.meaning is RunState.SUBMITTED and (end.cause is Cause.POWER_LOST or end.may_have_begun_early):
        # it never told the API that it runs, so none of its tasks did
        return _start_again(facts, record, _attempt(facts), start, end)
    kinds = {task.kind for task in facts.task_runs}
    running_and_waited_for = facts.meaning is RunState.RUNNING and bool(kinds & states.TASK_WAITING)
    # what remembered that its process had ended long before may have gone with the power
    may_have_been_clean = end.cause is Cause.POWER_LOST and "Running" not in kinds
    if running_and_waited_for and (end.is_clean or may_have_been_clean):
        return Decision(Outcome.NOTHING_TO_SAY)
    if end.cause in (Cause.CANCELLED, Cause.STOPPED):
        return _finish(facts, record, "Cancelled", sentence(end))
    return _decide_crash(facts, record, end, policy, start)


def _decide_crash(facts: RunFacts, record: Record, end: End, policy: CrashPolicy, start: datetime) -> Decision:
    if policy.action is CrashAction.LEAVE:
        return Decision(Outcome.NOTHING_TO_SAY)
    attempt = _attempt(facts)
    if policy.action is CrashAction.RESCHEDULE and attempt < policy.times and end.cause is not Cause.DEADLINE:
        return _start_again(facts, record, attempt + 1, start, end)
    kind = "TimedOut" if end.cause is Cause.DEADLINE else "Failed"
    return _finish(facts, record, kind, _crash_message(facts, end))


def _attempt(facts: RunFacts) -> int:
    """Return how many times it was started again: the claim that counts carries it, and Running does not."""
    claim = facts.submitted[0].state if facts.submitted else {}
    return max(states.attempt_of(facts.serialized_state), states.attempt_of(claim))


def _crash_message(facts: RunFacts, end: End) -> str:
    never_reported = facts.meaning is RunState.SUBMITTED
    if end.is_clean:
        return "Its process ended without ever reporting" if never_reported else "Its process ended in mid-run"
    text = sentence(end) + (" before the flow started" if never_reported and end.cause is Cause.EXITED else "")
    if never_reported and end.last_lines:
        text += "; last lines:\n" + "\n".join(end.last_lines)
    return text


def _cancelled(end: End) -> str:
    """Say that a run that somebody cancelled has ended, once."""
    if end.is_clean:
        return "Cancelled"
    return sentence(end) if end.cause is Cause.CANCELLED else f"Cancelled. {sentence(end)}"


def _finish(facts: RunFacts, record: Record, kind: str, message: str) -> Decision:
    """Set the final state; task runs left Running first, because Failed does not cascade to them on the Server."""
    running = [task for task in facts.task_runs if task.kind == "Running"]
    task_state = states.final("Cancelled" if kind == "Cancelled" else "Failed", message, record.nonce)
    changes = [StateChange(task.id, task.version, task_state, is_task_run=True) for task in running]
    changes.append(StateChange(record.id, facts.version, states.final(kind, message, record.nonce)))
    return Decision(Outcome.REPORTED, tuple(changes))


def _start_again(facts: RunFacts, record: Record, attempt: int, start: datetime, end: End) -> Decision:
    """Schedule it again. A task run left Running would be skipped by the next process, which then waits for ever."""
    why = _BEGAN_EARLY if end.may_have_begun_early else sentence(end)
    message = f"{why}; started again"
    running = [task for task in facts.task_runs if task.kind == "Running"]
    changes = [StateChange(task.id, task.version, states.pending(message), is_task_run=True) for task in running]
    state = states.scheduled(start, message, attempt=attempt, nonce=record.nonce)
    changes.append(StateChange(record.id, facts.version, state))
    return Decision(Outcome.RESCHEDULED, tuple(changes))
