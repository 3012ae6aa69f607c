"""Taking a flow run, and knowing for certain whether it was taken: table T1 in ARCHITECTURE.md.

Submitted carries a nonce in its context. The Server checks no version and keeps no promise about answers, so what
counts in the end is which nonce the newest Submitted state carries.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from local_agent.backends.prefect1 import queries, states
from local_agent.backends.prefect1.parse import (
    TAKEOVER_SECONDS,
    TaskRunFacts,
    task_run_facts,
    the_one_that_counts,
)
from local_agent.backends.prefect1.writer import RunReader, StateChange, StateWriter, rows
from local_agent.clock import Backoff
from local_agent.errors import ApiRefusedError, CredentialError, UnavailableError
from local_agent.model import Claim, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from local_agent.backends.prefect1.parse import PastState, RunFacts
    from local_agent.backends.prefect1.transport import Transport
    from local_agent.clock import Clock
    from local_agent.model import FlowRun, Record

_FRESH_SECONDS = 1.0
# by as much longer than what a rival has to take a run over as an API's replicas may lag behind each other
SETTLE_SECONDS = TAKEOVER_SECONDS + 0.5


class _Sent(Enum):
    """What is known of a Submitted that was sent."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


class Check(Enum):
    """Whether a claim that the API accepted is read back before the launch.

    AUTO reads it back at once: enough where the API's own lock refuses a second claim. ALWAYS waits first until another
    agent's claim, which may overwrite ours where there is no such lock, has landed. NEVER trusts the answer.
    """

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Claims:
    """Claims flow runs; `timeout_seconds` is how long an unanswered request may still land."""

    def __init__(
        self,
        transport: Transport,
        writer: StateWriter,
        clock: Clock,
        *,
        timeout_seconds: float,
        check: Check,
    ) -> None:
        self._transport = transport
        self._writer = writer
        self._reader = RunReader(transport, queries.claims, clock.monotonic)
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._check = check

    async def claim(self, run: FlowRun, nonce: str) -> Claim:
        """Take a run, or learn that it cannot be taken. Certain."""
        if run.is_long_retry:
            return await self._claim_task_runs(run, nonce)
        try:
            if not await self._still_waits(run):
                return Claim.LOST
        except (UnavailableError, ApiRefusedError, CredentialError):
            return Claim.LATER  # nothing was sent yet
        return await self._submit(run, nonce)

    async def claimed(self, record: Record) -> Claim:
        """Return what came of a claim that may have been sent before this agent's latest start. Certain."""
        if record.task_runs:
            return await self._claimed_task_runs(record)
        # counted from now: the wall clock may have been set since the claim
        landed_by = self._clock.monotonic() + self._timeout_seconds
        while True:
            facts = await self._read(record.id)
            verdict = self._verdict(facts, record.nonce)
            if verdict is Claim.OURS and facts is not None:
                return await self._unless_somebody_came_between(facts, record.version, record.nonce)
            if facts is None or self._clock.monotonic() > landed_by:
                return Claim.LOST
            # until then it may land on whatever is there: nobody else would see to it
            await self._clock.sleep(1)

    async def _still_waits(self, run: FlowRun) -> bool:
        if self._clock.monotonic() - run.read_at_seconds < _FRESH_SECONDS:
            return True
        facts = await self._reader.read(run.id)
        return facts is not None and facts.meaning is RunState.WAITING

    async def _submit(self, run: FlowRun, nonce: str) -> Claim:
        change = StateChange(run.id, run.version, states.submitted(run.state, nonce))
        while True:
            sent = await self._send([change])
            if sent is _Sent.ACCEPTED and self._check is Check.NEVER:
                return Claim.OURS
            facts = await self._read_settled(run.id, nonce, sent)
            verdict = self._verdict(facts, nonce)
            if verdict is Claim.OURS and facts is not None:
                return await self._unless_somebody_came_between(facts, run.version, nonce)
            was_scheduled_anew = verdict is None and facts is not None and facts.version != run.version
            if sent is _Sent.UNANSWERED and (verdict is Claim.LOST or was_scheduled_anew):
                verdict = await self._after_a_late_landing(run, nonce) or verdict
            if verdict is not None:
                return verdict
            if was_scheduled_anew or sent is _Sent.REFUSED:
                return Claim.LATER  # refused: the lock of a give-back, or of a claim that failed half-way
            # unanswered, or accepted and not to be seen yet; then sent again: with one nonce a late landing is harmless
            await self._clock.sleep(self._timeout_seconds)

    async def _read_settled(self, flow_run_id: str, nonce: str, sent: _Sent) -> RunFacts | None:
        """Read a claim back, where there may be no lock only when nobody can take the run over any more."""
        if self._check is Check.ALWAYS and sent is _Sent.ACCEPTED:
            await self._clock.sleep(SETTLE_SECONDS)
        facts = await self._read(flow_run_id)
        if self._check is Check.ALWAYS and sent is not _Sent.ACCEPTED and self._verdict(facts, nonce) is Claim.OURS:
            # without its answer nobody knows since when it has been there
            await self._clock.sleep(SETTLE_SECONDS)
            facts = await self._read(flow_run_id)
        return facts

    async def _unless_somebody_came_between(self, facts: RunFacts, version: int, nonce: str) -> Claim:
        """The Server lets Submitted overwrite anything: a Cancelled, or another agent's claim that came just before.

        What came between the state that the claim rests on and our Submitted is put back. Where both agents' claims
        came within the settle time, the newer one counts, because the older one's agent reads it.
        """
        between = [past for past in facts.recent if past.version > version and states.nonce_of(past.state) != nonce]
        final = [past for past in between if past.kind == "Cancelled" or past.kind in states.FINISHED]
        taken = [past for past in between if past.kind in ("Running", "Cancelling")]
        claims = [past for past in between if past.kind == "Submitted"]
        rivals = claims if self._check is not Check.ALWAYS else []
        # made to wait again since, by who had claimed it or by a person: it is due when that says
        anew = [past for past in between[:1] if past.kind in states.WAITING]
        # a rival that is running is known by its claim, which is to be the newest again
        overwritten = anew or final[:1] or (taken and [*claims[:1], taken[0]]) or rivals[:1]
        if not overwritten:
            return Claim.OURS
        await self._put_back(facts, [past.state for past in overwritten], nonce)
        return Claim.LOST

    async def _put_back(self, facts: RunFacts, overwritten: Sequence[Mapping[str, Any]], nonce: str) -> None:
        """Set again, oldest first, the states that a claim of ours has overwritten, until they are there."""
        changes = [StateChange(facts.id, facts.version, state) for state in overwritten]
        while await self._send(changes) is _Sent.UNANSWERED:
            await self._clock.sleep(self._timeout_seconds)
            now = await self._read(facts.id)
            if self._verdict(now, nonce) is not Claim.OURS:
                return  # it had landed

    async def _send(self, changes: Sequence[StateChange]) -> _Sent:
        try:
            await self._writer.write(changes)
        except ApiRefusedError:
            return _Sent.REFUSED
        except (UnavailableError, CredentialError):
            return _Sent.UNANSWERED
        return _Sent.ACCEPTED

    def _verdict(self, facts: RunFacts | None, nonce: str) -> Claim | None:
        """Decide by what was read back; None says that the run still waits."""
        if facts is None:
            return Claim.LOST
        if facts.meaning is RunState.SUBMITTED and facts.newest_claim() == nonce:
            return Claim.OURS
        return None if facts.meaning is RunState.WAITING else Claim.LOST

    async def _after_a_late_landing(self, run: FlowRun, nonce: str) -> Claim | None:
        """Our unanswered Submitted may yet land on top of what was read. Look once more.

        Put back what it has overwritten, or return OURS where it has taken the run over. None where it did not land.
        """
        await self._clock.sleep(self._timeout_seconds)
        facts = await self._read_settled(run.id, nonce, _Sent.UNANSWERED)
        if facts is None or self._verdict(facts, nonce) is not Claim.OURS:
            return None
        return await self._unless_somebody_came_between(facts, run.version, nonce)

    async def _read(self, flow_run_id: str) -> RunFacts | None:
        """Read until there is an answer: what is unknown is never launched and never given up."""
        backoff = Backoff(0.5, 10)
        while True:
            try:
                return await self._reader.read(flow_run_id)
            except (UnavailableError, ApiRefusedError, CredentialError):
                await self._clock.sleep(backoff.next_seconds())

    async def _claim_task_runs(self, run: FlowRun, nonce: str) -> Claim:
        """Claim a long retry: nothing locks it, so each due task run is marked and all are read back."""
        changes = [
            StateChange(
                task.id,
                task.version,
                states.submitted(task.state, nonce, message="Submitted for execution."),
                is_task_run=True,
            )
            for task in run.waiting_task_runs
        ]
        if not await self._all_wait(run):
            return Claim.LATER
        if await self._send(changes) is _Sent.UNANSWERED:
            await self._clock.sleep(self._timeout_seconds)
        await self._clock.sleep(SETTLE_SECONDS)
        found = await self._task_runs([task.id for task in run.waiting_task_runs])
        overwritten = _overwritten(found, {task.id: task.version for task in run.waiting_task_runs}, nonce)
        came_too_late = any(_counts_more(other, ours) for other, ours in overwritten.values())
        if found and not came_too_late and all(_carries(task, nonce) for task in found):
            return Claim.OURS
        others = {task_id: other.state for task_id, (other, _) in overwritten.items()} if came_too_late else {}
        await self._unmark(found, nonce, others)
        return Claim.LATER

    async def _all_wait(self, run: FlowRun) -> bool:
        if self._clock.monotonic() - run.read_at_seconds < _FRESH_SECONDS:
            return True
        found = await self._task_runs([task.id for task in run.waiting_task_runs])
        return all(task.kind in states.WAITING for task in found)

    async def _claimed_task_runs(self, record: Record) -> Claim:
        landed_by = self._clock.monotonic() + self._timeout_seconds
        while True:
            found = await self._task_runs(record.task_runs)
            if found and all(_carries(task, record.nonce) for task in found):
                return Claim.OURS
            if self._clock.monotonic() > landed_by:
                await self._unmark(found, record.nonce, {})
                return Claim.LOST
            await self._clock.sleep(1)

    async def _unmark(self, found: Sequence[TaskRunFacts], nonce: str, others: Mapping[str, Mapping[str, Any]]) -> None:
        """Let task runs wait again that we have marked although others of their flow run are another agent's.

        Nobody would ever be offered them again. `others` are the states that some of them get back instead, by id.
        """
        changes = _as_before(found, nonce, others)
        while changes and await self._send(changes) is _Sent.UNANSWERED:
            await self._clock.sleep(self._timeout_seconds)

    async def _task_runs(self, ids: Sequence[str]) -> tuple[TaskRunFacts, ...]:
        backoff = Backoff(0.5, 10)
        while True:
            try:
                answer = await self._transport.ask(queries.task_runs(ids))
                return rows(answer, "task_run", task_run_facts)
            except (UnavailableError, ApiRefusedError, CredentialError):
                await self._clock.sleep(backoff.next_seconds())

    async def give_back(self, record: Record, start: Callable[[RunFacts], datetime]) -> bool:
        """Make a run that was claimed and never started wait again. Return whether it was still ours.

        `start` says from when on, given how the run stands, by the API's clock.

        The Server's submit lock outlives the give-back by up to 30 s and refuses every agent: hence a later start.
        Raise UnavailableError while the API does not answer.
        """
        if record.task_runs:
            return await self._give_back_task_runs(record)
        facts = await self._reader.read(record.id)
        if facts is None or self._verdict(facts, record.nonce) is not Claim.OURS:
            return False
        attempt = states.attempt_of(facts.serialized_state)
        message = "Given back: its process was never started"
        state = states.scheduled(start(facts), message, attempt=attempt, nonce=record.nonce)
        change = StateChange(record.id, facts.version, state)
        await self._writer.write_and_let_land([change], self._clock, self._timeout_seconds)
        await self._unless_cancelled_meanwhile(record, facts.version)
        return True

    async def _unless_cancelled_meanwhile(self, record: Record, version: int) -> None:
        """A run that was cancelled between our read at `version` and our give-back must not wait, let alone run."""
        facts = await self._read(record.id)
        if (
            facts is None
            or facts.meaning is not RunState.WAITING
            or states.nonce_of(facts.serialized_state) != record.nonce
        ):
            return
        between = (past for past in facts.recent if version < past.version < facts.version)
        final = next((past for past in between if past.kind == "Cancelled" or past.kind in states.FINISHED), None)
        if final is not None:
            await self._send([StateChange(record.id, facts.version, final.state)])

    async def fail(self, record: Record, message: str) -> bool:
        """Fail a run that was claimed and cannot be started. Return whether it was still ours; raise as `give_back`."""
        facts = await self._reader.read(record.id)
        is_ours = facts is not None and (record.task_runs or self._verdict(facts, record.nonce) is Claim.OURS)
        if facts is None or not is_ours:
            return False
        await self._writer.tell([StateChange(record.id, facts.version, states.final("Failed", message, record.nonce))])
        return True

    async def _give_back_task_runs(self, record: Record) -> bool:
        changes = _as_before(await self._task_runs(record.task_runs), record.nonce, {})
        if changes:
            await self._writer.write(changes)
        return bool(changes)


def _as_before(found: Sequence[TaskRunFacts], nonce: str, others: Mapping[str, Mapping[str, Any]]) -> list[StateChange]:
    """Return what makes those task runs that carry our nonce wait as they did before, or sets another's state again."""
    ours = [task for task in found if _carries(task, nonce)]
    before = [(task, others.get(task.id) or task.state.get("state")) for task in ours]
    return [
        StateChange(task.id, task.version, state, is_task_run=True) for task, state in before if isinstance(state, dict)
    ]


def _overwritten(
    found: Sequence[TaskRunFacts], versions: Mapping[str, int], nonce: str
) -> dict[str, tuple[PastState, PastState]]:
    """Given task runs and their versions before they were marked, return by id what lies under our mark, and it."""
    pairs = {}
    for task in found:
        since = [past for past in task.recent if past.version > versions[task.id]]
        ours = next((past for past in since if states.nonce_of(past.state) == nonce), None)
        other = next((past for past in since if states.nonce_of(past.state) != nonce), None)
        if ours is not None and other is not None and other.version < ours.version:
            pairs[task.id] = other, ours
    return pairs


def _counts_more(other: PastState, ours: PastState) -> bool:
    """Tell whether our mark came too late: held up on its way it may land on what another agent has started."""
    return other.kind != "Submitted" or the_one_that_counts(other, ours) is other


def _carries(task: TaskRunFacts, nonce: str) -> bool:
    return task.kind == "Submitted" and states.nonce_of(task.state) == nonce
