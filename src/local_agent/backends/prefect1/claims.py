"""Taking a flow run, and knowing for certain whether it was taken: table T1 in docs/design/claims.md.

Submitted carries a nonce in its context. The Server checks no version and keeps no promise about answers, so what
counts in the end is the history. `claim_rule` decides from it; this carries out what it says.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from local_agent.aio.clock import Backoff
from local_agent.backends.prefect1 import queries, states
from local_agent.backends.prefect1.claim_rule import (
    RESULTS,
    Act,
    Plan,
    Sent,
    is_given_back,
    may_be_given_back,
    shows_another_kind,
)
from local_agent.backends.prefect1.detail import detail_of, ticket_of
from local_agent.backends.prefect1.marks import Marks
from local_agent.backends.prefect1.parse import run_facts
from local_agent.backends.prefect1.writer import RunReader, StateChange, StateWriter
from local_agent.errors import ApiRefusedError, CredentialError, UnavailableError
from local_agent.model import Claim, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from local_agent.aio.clock import Clock
    from local_agent.backends.prefect1.parse import RunFacts
    from local_agent.backends.prefect1.transport import Transport
    from local_agent.model import FlowRun, Record

_FRESH_SECONDS = 1.0
# longer than what lies between a claim's way through one replica of an API and through another
SETTLE_SECONDS = 3.0
_RESULTS = {Act.OURS: Claim.OURS, Act.LOST: Claim.LOST, Act.LATER: Claim.LATER}


class Check(Enum):
    """Whether a claim that the API accepted is read back before the launch.

    AUTO reads it back at once: all agents of this kind agree by that. ALWAYS waits first until claims have landed that
    were on their way: those of an agent of another kind, which reads nothing back. NEVER trusts the answer.
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
        self._reader = RunReader(transport, queries.claims, run_facts, clock.monotonic)
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._check = check
        # from the first claim on that an agent of another kind makes beside one of ours, AUTO waits as ALWAYS does
        self._settles = check is Check.ALWAYS
        self._marks = Marks(transport, writer, clock, timeout_seconds=timeout_seconds, settle_seconds=SETTLE_SECONDS)

    async def claim(self, run: FlowRun, nonce: str) -> Claim:
        """Take a run, or learn that it cannot be taken. Certain."""
        detail = detail_of(run)
        if detail.is_long_retry:
            return await self._marks.claim(run, nonce)
        try:
            if not await self._still_waits(run):
                return Claim.LOST
        except (UnavailableError, ApiRefusedError, CredentialError):
            return Claim.LATER  # nothing was sent yet
        plan = Plan(nonce, detail.version, settles=self._settles, trusts=self._check is Check.NEVER)
        return await self._carry_out(plan, run.id, states.submitted(detail.state, nonce))

    async def claimed(self, record: Record) -> Claim:
        """Return what came of a claim that may have been sent before this agent's latest start. Certain."""
        ticket = ticket_of(record)
        if ticket.task_runs:
            return await self._marks.claimed(record)
        return await self._carry_out(Plan.of_earlier_process(record.nonce, ticket.version), record.id, {})

    async def _still_waits(self, run: FlowRun) -> bool:
        if self._clock.monotonic() - run.read_at_seconds < _FRESH_SECONDS:
            return True
        facts = await self._reader.read(run.id)
        return facts is not None and facts.meaning is RunState.WAITING and facts.version == detail_of(run).version

    async def _carry_out(self, plan: Plan, flow_run_id: str, claim: Mapping[str, Any]) -> Claim:
        """Do what the plan says until it has come to something; `claim` is the state to send."""
        while plan.act not in RESULTS:
            plan = await self._do(plan, flow_run_id, claim)
        return _RESULTS[plan.act]

    async def _do(self, plan: Plan, flow_run_id: str, claim: Mapping[str, Any]) -> Plan:
        if plan.act is Act.READ:
            facts = await self._read(flow_run_id)
            self._settles = self._settles or (facts is not None and shows_another_kind(facts.past, plan.nonce))
            return replace(plan, settles=self._settles).has_read(None if facts is None else facts.past)
        if plan.act is Act.SEND:
            return plan.has_sent(await self._send(StateChange(flow_run_id, plan.rests_on, claim)))
        if plan.act is Act.RESTORE and plan.restore is not None:
            return plan.has_sent(await self._send(StateChange(flow_run_id, plan.over, plan.restore.state)))
        await self._clock.sleep(SETTLE_SECONDS if plan.act is Act.SETTLE else self._timeout_seconds)
        return plan.has_waited()

    async def _send(self, change: StateChange) -> Sent:
        try:
            await self._writer.write([change])
        except ApiRefusedError:
            return Sent.REFUSED
        except (UnavailableError, CredentialError):
            return Sent.UNANSWERED
        return Sent.ACCEPTED

    async def _read(self, flow_run_id: str) -> RunFacts | None:
        """Read until there is an answer: what is unknown is never launched and never given up."""
        backoff = Backoff(0.5, 10)
        while True:
            try:
                return await self._reader.read(flow_run_id)
            except (UnavailableError, ApiRefusedError, CredentialError):
                await self._clock.sleep(backoff.next_seconds())

    async def give_back(self, record: Record, start: Callable[[RunFacts], datetime]) -> bool:
        """Make a run that was claimed and never started wait again. Return whether it was still ours.

        `start` says from when on, given how the run stands, by the API's clock.

        The Server's submit lock outlives the give-back by up to 30 s and refuses every agent: hence a later start.
        Raise UnavailableError while the API does not answer.
        """
        ticket = ticket_of(record)
        if ticket.task_runs:
            return await self._marks.give_back(record)
        facts = await self._reader.read(record.id)
        if facts is None:
            return False
        if not is_given_back(facts.past, record.nonce):
            if not may_be_given_back(facts.past, record.nonce):
                return False
            await self._make_wait(record, facts, start)
        # cancelled between our read and our write, it must not wait, let alone run
        await self._carry_out(Plan.of_give_back(record.nonce, ticket.version), record.id, {})
        return True

    async def _make_wait(self, record: Record, facts: RunFacts, start: Callable[[RunFacts], datetime]) -> None:
        attempt = states.attempt_of(facts.submitted[0].state)
        message = "Given back: its process was never started"
        state = states.scheduled(start(facts), message, attempt=attempt, nonce=record.nonce)
        change = StateChange(record.id, facts.version, state)
        await self._writer.write_and_let_land([change], self._clock, self._timeout_seconds)

    async def fail(self, record: Record, message: str) -> bool:
        """Fail a run that was claimed and cannot be started. Return whether it was still ours; raise as `give_back`."""
        facts = await self._reader.read(record.id)
        if facts is None:
            return False
        if facts.meaning is RunState.FINISHED and states.nonce_of(facts.serialized_state) == record.nonce:
            return True  # by an earlier request whose answer was lost
        if ticket_of(record).task_runs:
            is_ours = facts.meaning is RunState.RUNNING and await self._marks.are_ours(record)
        else:
            is_ours = may_be_given_back(facts.past, record.nonce)
        if is_ours:
            final = states.final("Failed", message, record.nonce)
            await self._writer.tell([StateChange(record.id, facts.version, final)])
        return is_ours
