"""Taking a flow run, and knowing for certain whether it was taken: carries out what `claim_rule` says.

Where the API can, a page is claimed in one request that only lands on runs that wait. Where somebody else may claim,
too, or an answer was lost, the run's history is read after the claim and before the launch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_agent.aio.batching import Batcher
from local_agent.aio.clock import Backoff
from local_agent.backends.prefect3 import states
from local_agent.backends.prefect3.answers import is_missing
from local_agent.backends.prefect3.claim_rule import Said, beneath, is_held, judged, owner
from local_agent.backends.prefect3.pool import MAX_IN_BULK
from local_agent.backends.prefect3.states import Kind
from local_agent.errors import ApiRefusedError, CredentialError, LocalAgentError, UnavailableError
from local_agent.model import Claim

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TypeVar

    from local_agent.aio.clock import Clock
    from local_agent.backends.prefect3.parse import RunFacts, Verdict
    from local_agent.backends.prefect3.pool import Pool
    from local_agent.backends.prefect3.rivals import Rivals
    from local_agent.model import Record

    _Value = TypeVar("_Value")

_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.3, 5.0
_LOOK_SECONDS = 1.0
_FIRST_IN_BULK = 20  # of which each costs the API a transaction: how many it is given follows the time it takes
_NOT_NOW = (UnavailableError, CredentialError)


@dataclass(frozen=True, slots=True)
class _Sent:
    """One claim to send; `unanswered` tells that an earlier one with the same nonce had no answer."""

    run_id: str
    nonce: str
    unanswered: bool = False


class Claims:
    """Claims flow runs as `worker`; `timeout_seconds` is how long an unanswered request may still land.

    `rivals` knows whether anybody else claims runs of the same pool.
    """

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        *,
        timeout_seconds: float,
        rivals: Rivals,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._rivals = rivals
        self._message = f"Claimed by {pool.worker}"
        self._can_in_bulk = True
        self._bulk: Batcher[_Sent, Verdict | None] = Batcher(
            self._send_in_bulk, most=MAX_IN_BULK, first=_FIRST_IN_BULK, monotonic=clock.monotonic
        )

    def connected(self) -> None:
        """Find out anew what the API can: it may be another one."""
        self._can_in_bulk = True

    async def claim(self, run_id: str, nonce: str) -> Claim:
        """Take a run, or learn that it cannot be taken. Certain."""
        backoff, unanswered = Backoff(_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS), False
        while True:
            said = await self._send(_Sent(run_id, nonce, unanswered))
            if said is None:
                return await self._after_silence(run_id, nonce) if unanswered else Claim.LATER
            if said is Said.OURS:
                looks = unanswered or not self._can_in_bulk or await self._rivals.may_have_claimed()
                return await self._looked_beneath(run_id, nonce) if looks else Claim.OURS
            if said is Said.LOST:
                self._rivals.seen()
                return await self._after_silence(run_id, nonce) if unanswered else Claim.LOST
            unanswered = True
            await self._clock.sleep(backoff.next_seconds())

    async def claimed(self, record: Record) -> Claim:
        """Return what came of a claim that may have been sent before this agent's latest start. Certain.

        Also of a run that has begun on it, or was cancelled since: the record of that may be lost.
        """
        claim, facts = await self._settled(record.id, record.nonce)
        if claim is Claim.OURS or facts is None or facts.state.kind is Kind.SCHEDULED:
            return claim
        history = await self._until_done(lambda: self._pool.history(record.id))
        is_ours = owner(history) == record.nonce and beneath(history, record.nonce) is None
        return Claim.OURS if is_ours else Claim.LOST

    async def _send(self, sent: _Sent) -> Said | None:
        """Send a claim and return what its answer says, None where it was refused: then nothing was done."""
        try:
            return judged(await self._ask(sent), sent.nonce)
        except (ApiRefusedError, CredentialError):
            return None
        except UnavailableError:
            return Said.UNKNOWN

    async def _ask(self, sent: _Sent) -> Verdict | None:
        if self._can_in_bulk:
            try:
                return await self._bulk.ask(sent)
            except ApiRefusedError as error:
                if not is_missing(error):
                    raise
                self._can_in_bulk = False
        return await self._pool.set_state(sent.run_id, states.pending(sent.nonce, self._message))

    async def _send_in_bulk(self, batch: Sequence[_Sent]) -> Sequence[Verdict | Exception | None]:
        found: dict[str, Verdict | Exception] = {}
        for nonce, unanswered in dict.fromkeys((sent.nonce, sent.unanswered) for sent in batch):
            ids = [sent.run_id for sent in batch if (sent.nonce, sent.unanswered) == (nonce, unanswered)]
            # one that landed unanswered stands at our Pending, and a repeat is answered with that
            kinds = (Kind.SCHEDULED, Kind.PENDING) if unanswered else (Kind.SCHEDULED,)
            try:
                found.update(await self._pool.set_states(ids, kinds, states.pending(nonce, self._message)))
            except LocalAgentError as error:
                found.update(dict.fromkeys(ids, error))
        return [found.get(sent.run_id) for sent in batch]

    async def _settled(self, run_id: str, nonce: str) -> tuple[Claim, RunFacts | None]:
        """Read the run until no claim of ours can land any more, or one has. Return how the run stands, too."""
        until = self._clock.monotonic() + self._timeout_seconds
        while True:
            facts = await self._until_done(lambda: self._pool.run(run_id))
            if facts is None:
                return Claim.LOST, None
            if is_held(facts.state, nonce):
                return await self._looked_beneath(run_id, nonce), facts
            may_land = facts.state.kind is Kind.SCHEDULED or facts.state.kind.is_final
            if not may_land or self._clock.monotonic() >= until:
                return Claim.LOST, facts
            await self._clock.sleep(_LOOK_SECONDS)

    async def _after_silence(self, run_id: str, nonce: str) -> Claim:
        """Learn what came of a claim that had no answer. One that was cancelled on it is ended: nothing of it lives."""
        claim, facts = await self._settled(run_id, nonce)
        if claim is Claim.LOST and facts is not None and facts.state.kind is Kind.CANCELLING:
            history = await self._until_done(lambda: self._pool.history(run_id))
            if owner(history) == nonce:
                await self._until_done(lambda: self._pool.set_state(run_id, states.cancelled("Cancelled")))
        return claim

    async def _looked_beneath(self, run_id: str, nonce: str) -> Claim:
        """Look what our claim lies on. Where that is another's, put back how the run stood, and forget it."""
        history = await self._until_done(lambda: self._pool.history(run_id))
        other = beneath(history, nonce)
        if other is None:
            return Claim.OURS
        facts = await self._until_done(lambda: self._pool.run(run_id))
        if facts is not None and is_held(facts.state, nonce):
            await self._until_done(lambda: self._pool.set_state(run_id, other.restore, force=True))
        return Claim.LOST

    async def _until_done(self, ask: Callable[[], Awaitable[_Value]]) -> _Value:
        """Ask until there is an answer: what is unknown is never launched and never given up."""
        backoff = Backoff(_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)
        while True:
            try:
                return await ask()
            except (*_NOT_NOW, ApiRefusedError):
                await self._clock.sleep(backoff.next_seconds())
