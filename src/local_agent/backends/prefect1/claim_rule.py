"""Whose a flow run is, and what an agent does next about its claim: table T1 in docs/design/claims.md.

Nothing here reads a clock or sends a request: given what came back, a `Plan` says what to do now. So the search in
tests/unit/backends/test_claim_rule.py runs the very code that the agent runs.

The rule: of the claims since a flow run last waited the first one counts, and one of an agent of another kind, which
carries no nonce and starts its run unasked, counts more than any. The API only appends to a history. So whoever sees
its own claim sees every claim that came before it, and all agents come to the same, whenever they look.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from local_agent.backends.prefect1 import states

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class PastState:
    """A state of a run's history; `at` is when the API set it, by its own clock."""

    version: int
    state: Mapping[str, Any] = field(compare=False)
    at: datetime | None = None

    @property
    def kind(self) -> str:
        """The state's name."""
        return str(self.state.get("type", ""))

    @property
    def nonce(self) -> str:
        """The nonce that it carries, "" where it carries none."""
        return states.nonce_of(self.state)

    @property
    def is_claim(self) -> bool:
        """Whether an agent took the run with it."""
        return self.kind == "Submitted"

    @property
    def is_waiting(self) -> bool:
        """Whether nobody has the run in it."""
        return self.kind in states.WAITING

    @property
    def is_final(self) -> bool:
        """Whether the run is over with it."""
        return self.kind == "Cancelled" or self.kind in states.FINISHED

    def given_back_by(self, nonce: str) -> PastState:
        """Return this waiting state as the agent of this claim sets it again: it knows it for its own then."""
        return replace(self, state=states.carrying(self.state, nonce))


class Sent(Enum):
    """What is known of a claim that was sent."""

    NOT_YET = "not yet"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNANSWERED = "unanswered"  # it may have been carried out, or still be
    EARLIER = "by an earlier process of this agent"  # the same, and nobody waits for a process any more


class Act(Enum):
    """What to do now; the last three are what came of the claim."""

    SEND = "send the claim"
    READ = "read the history"
    LET_LAND = "wait until what was sent can be carried out no more"
    SETTLE = "wait until claims that are under way have landed"
    RESTORE = "set again what our claim has overwritten"
    OURS = "ours"
    LOST = "lost"
    LATER = "later"


RESULTS = frozenset({Act.OURS, Act.LOST, Act.LATER})


def standing_claim(history: Sequence[PastState]) -> PastState | None:
    """Given a run's history, newest first, return the claim that counts, None where there is none.

    Of a run that waits again it is the one that counted before. A claim that is repeated with its nonce is no new one.
    """
    newest = next((index for index, past in enumerate(history) if past.is_claim), None)
    if newest is None:
        return None
    claims = [past for past in _since_it_waited(history[newest:]) if past.is_claim]
    return next((claim for claim in claims if not claim.nonce), claims[-1])


def shows_another_kind(history: Sequence[PastState], nonce: str) -> bool:
    """Tell whether an agent of another kind claimed the run beside us: here nothing keeps its claims from landing."""
    claims = [past for past in _since_it_waited(history) if past.is_claim]
    return any(claim.nonce == nonce for claim in claims) and not all(claim.nonce for claim in claims)


def may_be_given_back(history: Sequence[PastState], nonce: str) -> bool:
    """Tell whether a run is still Submitted by the claim with this nonce: then only its agent may make it wait."""
    standing = standing_claim(history)
    is_submitted = bool(history) and history[0].is_claim and _is_new(_beneath_claims(history))
    return is_submitted and standing is not None and standing.nonce == nonce


def is_given_back(history: Sequence[PastState], nonce: str) -> bool:
    """Tell whether a run waits because the agent of this claim gave it back."""
    return bool(history) and history[0].is_waiting and history[0].nonce == nonce


def hidden_end(history: Sequence[PastState]) -> PastState | None:
    """Return the state that a run has ended in since it last waited, where another lies on it; None where none does.

    A claim that was held up on its way hides it, or a Running that was set again in the same moment.
    """
    ends = (past for past in _since_it_waited(history) if past.is_final)
    return None if not history or history[0].is_final else next(ends, None)


@dataclass(frozen=True, slots=True)
class Plan:
    """One claim on its way: `act` is what to do now, and the method that fits tells what came of it.

    `rests_on` is the version of the waiting state that the claim was made for, and `settles` whether claims of others
    that are under way are waited for before the run is taken for ours. `restore` is what to set for RESTORE, and `over`
    the version of the state that it is set over.
    """

    nonce: str
    rests_on: int
    settles: bool = False
    trusts: bool = False  # the answer, without reading the claim back
    act: Act = Act.SEND
    sent: Sent = Sent.NOT_YET
    may_land: bool = False  # whether something of ours may still be carried out
    has_settled: bool = False
    restore: PastState | None = None
    over: int = 0

    @classmethod
    def of_earlier_process(cls, nonce: str, rests_on: int) -> Plan:
        """Return the plan for a claim that may have been sent before this agent's latest start."""
        return cls(nonce, rests_on, act=Act.LET_LAND, sent=Sent.EARLIER)

    @classmethod
    def of_give_back(cls, nonce: str, rests_on: int) -> Plan:
        """Return the plan for a run that was just given back: it may have been cancelled in the same moment."""
        return cls(nonce, rests_on, act=Act.READ, sent=Sent.EARLIER)

    def has_sent(self, sent: Sent) -> Plan:
        """After SEND, or after RESTORE, whose refusal is the end of it."""
        if self.act is Act.RESTORE:
            after = {Sent.REFUSED: Act.LOST, Sent.UNANSWERED: Act.LET_LAND}.get(sent, Act.READ)
            return self._then(after, may_land=True)
        if sent is Sent.ACCEPTED and self.trusts:
            return self._then(Act.OURS, sent=sent)
        waits = self.settles and sent is Sent.ACCEPTED
        return self._then(Act.SETTLE if waits else Act.READ, sent=sent, may_land=sent is not Sent.REFUSED)

    def has_waited(self) -> Plan:
        """After LET_LAND or SETTLE."""
        if self.act is Act.LET_LAND:
            return self._then(Act.READ, may_land=False)
        return self._then(Act.READ, has_settled=True)

    def has_read(self, history: Sequence[PastState] | None) -> Plan:
        """After READ: given the history, newest first, None where the API does not know the run."""
        if not history:
            return self._then(Act.LOST)
        if any(past.is_claim and past.nonce == self.nonce for past in history):
            return self._seen(history)
        return self._unseen(history[0])

    def _unseen(self, newest: PastState) -> Plan:
        """Our claim is not there, or a replica of the API does not show it yet."""
        if self.may_land:
            return self._then(Act.LET_LAND)
        if not newest.is_waiting or self.sent is Sent.EARLIER:
            return self._then(Act.LOST)
        if self.sent is Sent.REFUSED or newest.version != self.rests_on:
            return self._then(Act.LATER)
        # it never arrived; with the same nonce one that lands late after all is no other claim
        return self._then(Act.SEND)

    def _seen(self, history: Sequence[PastState]) -> Plan:
        hidden = self._hidden(history)
        if hidden is not None and (hidden.is_final or self.restore is None or not self.may_land):
            return self._then(Act.RESTORE, restore=hidden, over=history[0].version)
        if self.restore is not None:
            # what we have set again may lie on what has come since: seen by now, or when it can land no more
            return self._then(Act.LET_LAND if self.may_land else Act.LOST)
        since, standing = _since_it_waited(history), standing_claim(history)
        if not any(past.is_claim and past.nonce == self.nonce for past in since):
            return self._then(Act.LATER)  # it waits anew: somebody had it, and it is offered again
        if standing is None or standing.nonce != self.nonce or not all(past.is_claim for past in since):
            return self._then(Act.LOST)
        if self.settles and not self.has_settled:
            return self._then(Act.SETTLE)  # without its answer nobody knows since when it has been there
        return self._then(Act.OURS)

    def _hidden(self, history: Sequence[PastState]) -> PastState | None:
        """Return what is to be set again: what a state of ours lies on and may not hide.

        What the run has come to; that it runs, where our claim is the newest state; and where nobody else has it the
        waiting state, if that is not the one that the claim was made for: the run is due when that says.
        """
        if is_given_back(history, self.nonce):
            below = _beneath_claims(history[1:])
            return below if below.is_final else None
        end = hidden_end(history)
        if end is not None or not history[0].is_claim:
            return end
        below, standing = _beneath_claims(history), standing_claim(history)
        if below.is_waiting:
            is_ours = standing is not None and standing.nonce == self.nonce
            return below.given_back_by(self.nonce) if is_ours and below.version != self.rests_on else None
        return below if below.kind and history[0].nonce == self.nonce else None

    def _then(self, act: Act, **more: Any) -> Plan:  # noqa: ANN401 - fields of many types
        return replace(self, act=act, **more)


def _since_it_waited(history: Sequence[PastState]) -> list[PastState]:
    waited = next((index for index, past in enumerate(history) if past.is_waiting), len(history))
    return list(history[:waited])


def _beneath_claims(history: Sequence[PastState]) -> PastState:
    """Return the newest state that is no claim; where all are, one of no kind, which nobody can set again."""
    return next((past for past in history if not past.is_claim), PastState(0, {}))


def _is_new(past: PastState) -> bool:
    return past.is_waiting or not past.kind
