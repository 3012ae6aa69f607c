"""Telling the API of an end, and making a run wait again that never began: carries out what `end_rule` says."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from local_agent.aio.batching import Batcher
from local_agent.backends.fields import WrongFieldError
from local_agent.backends.prefect3 import end_rule, states
from local_agent.backends.prefect3.answers import not_understood
from local_agent.backends.prefect3.claim_rule import is_held, owner
from local_agent.backends.prefect3.end_rule import Word
from local_agent.backends.prefect3.parse import Status
from local_agent.backends.prefect3.pool import MAX_RUNS
from local_agent.backends.prefect3.states import Kind
from local_agent.errors import ApiUnreachableError, LocalAgentError
from local_agent.model import Outcome
from local_agent.wording import sentence

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from local_agent.aio.clock import Clock
    from local_agent.backends.prefect3.parse import RunFacts, Verdict
    from local_agent.backends.prefect3.pool import Pool
    from local_agent.model import CrashPolicy, End, Record

_AGAIN = timedelta(seconds=3)  # nobody takes a run that is started again before its crash was seen


class Ends:
    """Reports ends; `timeout_seconds` is how long an unanswered request may still land.

    `take_away` takes a run's infrastructure_pid away: cancelled with one, a waiting run would wait for its process.
    """

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        *,
        timeout_seconds: float,
        take_away: Callable[[str], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._take_away = take_away
        # ends that come close together share a request
        self._reads: Batcher[str, RunFacts | None] = Batcher(
            self._read, most=MAX_RUNS, first=MAX_RUNS, monotonic=clock.monotonic
        )

    async def report(self, record: Record, end: End, policy: CrashPolicy) -> Outcome:
        """Tell the API of an end, if it needs telling. To be called when nothing of the run lives any more.

        Raise ApiUnreachableError while the API does not answer: to ask again is harmless.
        """
        facts = await self._reads.ask(record.id)
        history = await self._history(record) if end_rule.needs_history(facts, record, policy) else ()
        word = end_rule.decide(facts, history, record, end, policy)
        if facts is None or word in _OUTCOMES:
            return _OUTCOMES[word]
        if word is Word.CANCEL:
            return await self._cancel(record, end)
        if word is Word.CANCELLED:
            return await self._set_cancelled(record, end)
        return await self._crash(record, end, facts, word)

    async def _cancel(self, record: Record, end: End) -> Outcome:
        verdict = await self._pool.set_state(record.id, states.cancelling())
        if verdict is None:
            return Outcome.NOT_OURS
        return Outcome.NOTHING_TO_SAY if end_rule.came_first(verdict) else await self._set_cancelled(record, end)

    async def _set_cancelled(self, record: Record, end: End) -> Outcome:
        await self._pool.set_state(record.id, states.cancelled(end_rule.cancel_message(end)))
        return Outcome.REPORTED

    async def _crash(self, record: Record, end: End, facts: RunFacts, word: Word) -> Outcome:
        if word is Word.WAIT:
            return await self._make_wait(record, states.scheduled(self._clock.now(), f"{sentence(end)}: it never ran"))
        if word in (Word.CRASHED, Word.AGAIN):
            outcome = await self._set_crashed(record, end, facts)
            if outcome is not None:
                return outcome
        if word is Word.CRASHED:
            return Outcome.REPORTED
        return await self._make_wait(record, states.started_again(self._clock.now() + _AGAIN, sentence(end)))

    async def _set_crashed(self, record: Record, end: End, facts: RunFacts) -> Outcome | None:
        """Set Crashed, and return None; or what it came to where somebody's word was first."""
        message = end_rule.crash_message(facts, end)
        verdict = await self._pool.set_state(record.id, states.crashed(message, record.nonce))
        if verdict is None:
            return Outcome.NOT_OURS
        if end_rule.was_cancelled(verdict):
            return await self._set_cancelled(record, end)
        if verdict.status is not Status.ACCEPT and not states.is_our_crash(verdict.state, record.nonce):
            return Outcome.NOTHING_TO_SAY
        await self._crash_task_runs(record, sentence(end))
        return None

    async def _crash_task_runs(self, record: Record, message: str) -> None:
        """End the task runs that would stay Running for ever. The flow run's own state is what counts."""
        with contextlib.suppress(LocalAgentError):
            for task_run_id in await self._pool.running_task_runs(record.id):
                await self._pool.set_task_run_state(task_run_id, states.crashed(message, record.nonce))

    async def give_back(self, record: Record, *, is_first: bool) -> Outcome:
        """Make a claimed run wait again whose gate never opened, unless it is another's or was cancelled.

        `is_first` tells that nobody can have asked for that before.
        """
        facts = await self._pool.run(record.id)
        if facts is None:
            return Outcome.NOT_OURS
        if is_held(facts.state, record.nonce):
            # what was asked for before may still land: it must not make a run wait that runs by then
            earliest = self._clock.now() + timedelta(seconds=0 if is_first else self._timeout_seconds)
            start = max(record.due, earliest)
            return await self._make_wait(record, states.scheduled(start, "Given back: its process was never started"))
        history = await self._history(record)
        if owner(history) != record.nonce:
            return Outcome.NOT_OURS
        return await self._end_of_unbegun(record, facts)

    async def _end_of_unbegun(self, record: Record, facts: RunFacts) -> Outcome:
        if facts.state.kind is Kind.SCHEDULED:
            return Outcome.GIVEN_BACK
        if facts.state.kind is Kind.CANCELLING:
            await self._pool.set_state(record.id, states.cancelled("Cancelled"))
            return Outcome.REPORTED
        return Outcome.NOTHING_TO_SAY

    async def refuse(self, record: Record, message: str) -> Outcome:
        """Crash a claimed run that can never be started, saying why."""
        verdict = await self._refused(record, message)
        if verdict is None:
            return Outcome.NOT_OURS
        if end_rule.was_cancelled(verdict):
            await self._pool.set_state(record.id, states.cancelled("Cancelled"))
        return Outcome.REPORTED

    async def _refused(self, record: Record, message: str) -> Verdict | None:
        facts = await self._pool.run(record.id)
        if facts is None:
            return None
        is_ours = is_held(facts.state, record.nonce) or owner(await self._history(record)) == record.nonce
        return await self._pool.set_state(record.id, states.crashed(message, record.nonce)) if is_ours else None

    async def _make_wait(self, record: Record, state: Mapping[str, Any]) -> Outcome:
        """Make it wait. Raise ApiUnreachableError only when the request can land no more: by then it might run."""
        await self._take_away(record.id)
        try:
            verdict = await self._pool.set_state(record.id, state)
        except ApiUnreachableError:
            await self._clock.sleep(self._timeout_seconds)
            raise
        if verdict is None:
            return Outcome.NOT_OURS
        if verdict.state.kind is Kind.CANCELLING:
            await self._pool.set_state(record.id, states.cancelled("Cancelled"))
            return Outcome.REPORTED
        is_again = state["name"] == "AwaitingRetry"
        done = Outcome.RESCHEDULED if is_again else Outcome.GIVEN_BACK
        return done if verdict.state.kind is Kind.SCHEDULED else Outcome.NOTHING_TO_SAY

    async def _history(self, record: Record) -> Sequence[states.State]:
        return await self._pool.history(record.id)

    async def _read(self, ids: Sequence[str]) -> Sequence[RunFacts | Exception | None]:
        found = await self._pool.runs(list(dict.fromkeys(ids)))
        return [_or_problem(found.get(run_id)) for run_id in ids]


def _or_problem(found: RunFacts | WrongFieldError | None) -> RunFacts | Exception | None:
    return not_understood(found) if isinstance(found, WrongFieldError) else found


_OUTCOMES = {
    Word.NOTHING: Outcome.NOTHING_TO_SAY,
    Word.NOT_OURS: Outcome.NOT_OURS,
    Word.SAID: Outcome.REPORTED,
}
