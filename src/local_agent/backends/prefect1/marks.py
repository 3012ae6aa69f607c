"""Taking a long retry: a flow run that is Running while task runs of it wait, and that nothing locks.

Each task run that is due is marked with the claim's nonce. The rule of `claim_rule` says of each whose mark counts, and
the flow run is started only by an agent whose marks count on all that it has marked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_agent.aio.clock import Backoff
from local_agent.backends.prefect1 import queries, states
from local_agent.backends.prefect1.claim_rule import standing_claim
from local_agent.backends.prefect1.detail import detail_of, ticket_of
from local_agent.backends.prefect1.parse import TaskRunFacts, task_run_facts
from local_agent.backends.prefect1.writer import StateChange, StateWriter, rows
from local_agent.errors import ApiRefusedError, CredentialError, UnavailableError
from local_agent.model import Claim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_agent.aio.clock import Clock
    from local_agent.backends.prefect1.detail import WaitingTaskRun
    from local_agent.backends.prefect1.transport import Transport
    from local_agent.model import FlowRun, Record

_FRESH_SECONDS = 1.0


class Marks:
    """Marks task runs; `timeout_seconds` is how long an unanswered request may still land."""

    def __init__(
        self, transport: Transport, writer: StateWriter, clock: Clock, *, timeout_seconds: float, settle_seconds: float
    ) -> None:
        self._transport = transport
        self._writer = writer
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._settle_seconds = settle_seconds

    async def claim(self, run: FlowRun, nonce: str) -> Claim:
        """Mark what is due and read it back when marks that were on their way have landed."""
        if not await self._all_wait(run):
            return Claim.LATER
        tasks = detail_of(run).waiting_task_runs
        if await self._was_unanswered([_mark(task, nonce) for task in tasks]):
            await self._clock.sleep(self._timeout_seconds)
        await self._clock.sleep(self._settle_seconds)
        ids = [task.id for task in tasks]
        found, marked = await self._read(ids), await self._ask(queries.marked_task_runs(run.id))
        # others of the flow run may have been marked, and so not been offered to us: two processes of it would run
        if _all_ours(found, nonce) and all(task.id in ids for task in marked):
            return Claim.OURS
        await self._forget_lost_claim(found, nonce)
        return Claim.LATER

    async def claimed(self, record: Record) -> Claim:
        """Return what came of marks that may have been sent before this agent's latest start."""
        await self._clock.sleep(self._timeout_seconds)
        found = await self._read(ticket_of(record).task_runs)
        if _all_ours(found, record.nonce):
            return Claim.OURS
        await self._forget_lost_claim(found, record.nonce)
        return Claim.LOST

    async def are_ours(self, record: Record) -> bool:
        """Tell whether our marks still count on all that the record names."""
        return _all_ours(await self._read(ticket_of(record).task_runs), record.nonce)

    async def give_back(self, record: Record) -> bool:
        """Let marked task runs wait as before. Return whether one was ours. Raise while the API does not answer."""
        changes = _released(await self._read(ticket_of(record).task_runs), record.nonce)
        if changes:
            await self._writer.write_and_let_land(changes, self._clock, self._timeout_seconds)
        return bool(changes)

    async def _forget_lost_claim(self, found: Sequence[TaskRunFacts], nonce: str) -> None:
        """Let those wait again that are ours by the rule, as nobody would ever be offered them; unhide the others."""
        changes = [*_released(found, nonce), *_unhidden(found, nonce)]
        while changes and await self._was_unanswered(changes):
            await self._clock.sleep(self._timeout_seconds)
            found = await self._read([task.id for task in found])
            changes = [*_released(found, nonce), *_unhidden(found, nonce)]

    async def _all_wait(self, run: FlowRun) -> bool:
        if self._clock.monotonic() - run.read_at_seconds < _FRESH_SECONDS:
            return True
        found = await self._read([task.id for task in detail_of(run).waiting_task_runs])
        return all(task.kind in states.WAITING for task in found)

    async def _was_unanswered(self, changes: Sequence[StateChange]) -> bool:
        try:
            await self._writer.write(changes)
        except ApiRefusedError:
            return False
        except (UnavailableError, CredentialError):
            return True
        return False

    async def _read(self, ids: Sequence[str]) -> tuple[TaskRunFacts, ...]:
        return await self._ask(queries.task_runs(ids))

    async def _ask(self, query: str) -> tuple[TaskRunFacts, ...]:
        backoff = Backoff(0.5, 10)
        while True:
            try:
                answer = await self._transport.ask(query)
                return rows(answer, "task_run", task_run_facts)
            except (UnavailableError, ApiRefusedError, CredentialError):
                await self._clock.sleep(backoff.next_seconds())


def _mark(task: WaitingTaskRun, nonce: str) -> StateChange:
    state = states.submitted(task.state, nonce, message="Submitted for execution.")
    return StateChange(task.id, task.version, state, is_task_run=True)


def _all_ours(found: Sequence[TaskRunFacts], nonce: str) -> bool:
    return bool(found) and all(_is_ours(task, nonce) for task in found)


def _is_ours(task: TaskRunFacts, nonce: str) -> bool:
    """Tell whether a task run is marked, and by the rule with this nonce, and nothing else came of it."""
    standing = standing_claim(task.recent)
    below = next((past.kind for past in task.recent if not past.is_claim), "")
    waited = below in states.WAITING or not below
    return task.kind == "Submitted" and waited and standing is not None and standing.nonce == nonce


def _released(found: Sequence[TaskRunFacts], nonce: str) -> list[StateChange]:
    """Return what makes those task runs wait as they did before whose mark that counts is ours."""
    before = [(task, _wrapped(task, nonce)) for task in found if _is_ours(task, nonce)]
    return [
        StateChange(task.id, task.version, state, is_task_run=True) for task, state in before if isinstance(state, dict)
    ]


def _wrapped(task: TaskRunFacts, nonce: str) -> Any:  # noqa: ANN401 - JSON
    return next((past.state.get("state") for past in task.recent if past.is_claim and past.nonce == nonce), None)


def _unhidden(found: Sequence[TaskRunFacts], nonce: str) -> list[StateChange]:
    """Return what sets again what a mark of ours lies on that was held up: a task run that runs, or has ended."""
    marked = [task for task in found if task.kind == "Submitted" and states.nonce_of(task.state) == nonce]
    below = [(task, next((past for past in task.recent if not past.is_claim), None)) for task in marked]
    return [
        StateChange(task.id, task.version, past.state, is_task_run=True)
        for task, past in below
        if past is not None and not past.is_waiting
    ]
