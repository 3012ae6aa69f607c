"""Table T1 by exhaustive search: every order of everything that two and three agents and the network can do.

`-s` shows how much was searched. The long form (LOCAL_AGENT_TESTS_CHAOS=long) has wider bounds.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from local_agent.backends.prefect1.claim_rule import Act, PastState, Plan, Sent, standing_claim
from support.long_form import is_long_form
from unit.backends.claim_model import Bounds, Entry, past_state, search

_SHORT = {
    "two agents": Bounds(2, losses=2, kills=1),
    "two agents, both of which are killed": Bounds(2, losses=1, kills=2),
    "a run that is given back, and cancelled": Bounds(2, losses=1, kills=1, cancels=1, failures=1),
    "each may take it twice": Bounds(2, polls=2, losses=1, failures=1),
    "each may take it twice, one is killed": Bounds(2, polls=2, kills=1, failures=1),
    "a lock that holds for some replicas": Bounds(2, losses=1, kills=1, failures=1, locks=True),
    "claim_check = always": Bounds(2, losses=1, kills=1, failures=1, settles=True),
    "replicas whose clocks differ": Bounds(2, losses=1, kills=1, two_steps=True, skewed=True),
    "three agents": Bounds(3),
    "three agents, a late landing": Bounds(3, losses=1),
    "three agents, always": Bounds(3, losses=1, settles=True),
}
_LONG = {
    "each may take it twice, and all that can happen": Bounds(2, polls=2, losses=1, kills=1, cancels=1, failures=1),
    "two agents, much gets lost": Bounds(2, losses=3, kills=2, cancels=1, failures=1),
    "three agents, one is killed": Bounds(3, kills=1),
    "three agents, a late landing and a kill": Bounds(3, losses=1, kills=1),
    "three agents, two late landings": Bounds(3, losses=2),
    "three agents, a run that is given back and cancelled": Bounds(3, failures=1, cancels=1),
    "three agents, replicas": Bounds(3, two_steps=True),
    "three agents, replicas, always": Bounds(3, two_steps=True, settles=True),
    "three agents, a lock for some replicas": Bounds(3, losses=1, locks=True),
}
_ALL = _SHORT | (_LONG if is_long_form() else {})


@pytest.mark.timeout(3600 if is_long_form() else 300)
@pytest.mark.parametrize("bounds", _ALL.values(), ids=_ALL)
def test_nothing_is_lost_and_nothing_runs_twice(bounds: Bounds) -> None:
    found = search(bounds)
    print(f"\n{bounds}: {found.states} states, {found.steps} steps, {found.histories} ways through them")
    assert not found.bad, "\n\n".join("\n  ".join([name, *way]) for name, way in found.bad.items())
    assert found.ends > 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [0, 1], ids=["who polls first", "who polls last"])
def test_always_leaves_a_run_to_an_agent_of_another_kind(number: int) -> None:
    """It claims what it has polled and starts it, without a look. Its claim has landed when the check is made."""
    bounds = Bounds(2, losses=1, kills=1, settles=True, of_another_kind=number)
    assert not search(bounds).bad
    unsettled = Bounds(2, of_another_kind=number)
    assert "run twice" in search(unsettled).bad, "which auto cannot know before it has seen one"


class OldPlan(Plan):
    """Version 0.1.0: the newest claim counts, and who finds another's beneath its own puts that back."""

    __slots__ = ()

    def has_read(self, history: Sequence[PastState] | None) -> Plan:
        assert history
        if self.restore is not None:
            return self._then(Act.LOST)
        if not history[0].is_claim or history[0].nonce != self.nonce:
            return self._unseen(history[0]) if history[0].is_waiting else self._then(Act.LOST)
        rivals = [past for past in history if past.is_claim and past.version > self.rests_on]
        others = [past for past in rivals if past.nonce != self.nonce]
        return self._then(Act.RESTORE, restore=others[0]) if others else self._then(Act.OURS)


def test_the_search_finds_what_the_rule_of_before_lost() -> None:
    bad = search(Bounds(2), OldPlan).bad
    assert bad["lost: in the end Submitted, and nobody has it"] == [
        *("A polls", "B polls", "A sends Submitted", "B sends Submitted", "A reads", "B reads"),
        *("B sends Submitted", "B reads"),
        "in the end [('Scheduled', ''), ('Submitted', 'A0'), ('Submitted', 'B0'), ('Submitted', 'A0')]",
    ]


class HastyPlan(Plan):
    """A plan that sets something again although what it has sent for that may still land."""

    __slots__ = ()

    def has_sent(self, sent: Sent) -> Plan:
        after = super().has_sent(sent)
        return after._then(Act.READ, may_land=False) if self.act is Act.RESTORE else after


def test_the_search_finds_what_lands_late() -> None:
    assert "run twice" in search(Bounds(2, polls=2, losses=1, failures=1), HastyPlan).bad


def _history(*entries: tuple[str, str]) -> list[PastState]:
    """Given kinds and nonces, oldest first, return the history that they make."""
    made = [Entry(version, kind, nonce, "", version) for version, (kind, nonce) in enumerate(entries, 1)]
    return [past_state(entry) for entry in reversed(made)]


_WAITS, _WAITS_AGAIN = ("Scheduled", ""), ("Scheduled", "a")
_A, _B, _FOREIGN, _RUNS = ("Submitted", "a"), ("Submitted", "b"), ("Submitted", ""), ("Running", "")


@pytest.mark.parametrize(
    ("entries", "counts"),
    [
        ([_WAITS], None),
        ([_WAITS, _A], "a"),
        ([_WAITS, _A, _B], "a"),
        ([_WAITS, _A, _B, _A], "a"),
        ([_WAITS, _A, _RUNS, _B], "a"),
        ([_WAITS, _A, _WAITS_AGAIN, _B], "b"),
        ([_WAITS, _A, _WAITS_AGAIN, _B, _A], "b"),
        ([_WAITS, _A, _WAITS_AGAIN], "a"),
        ([_WAITS, _FOREIGN, _B], ""),
        ([_WAITS, _A, _FOREIGN], ""),
    ],
)
def test_the_first_claim_since_the_run_last_waited_counts(entries: list[tuple[str, str]], counts: str | None) -> None:
    standing = standing_claim(_history(*entries))
    assert (standing and standing.nonce) == counts


@pytest.mark.parametrize(
    ("sent", "entries", "act"),
    [
        (Sent.ACCEPTED, [_WAITS, _A], Act.OURS),
        (Sent.ACCEPTED, [_WAITS, _A, _B], Act.OURS),
        (Sent.ACCEPTED, [_WAITS, _B, _A], Act.LOST),
        (Sent.ACCEPTED, [_WAITS, _A, _FOREIGN], Act.LOST),
        (Sent.ACCEPTED, [_WAITS, _A, _WAITS_AGAIN], Act.LATER),
        (Sent.ACCEPTED, [_WAITS, _B, _RUNS, _A], Act.RESTORE),
        (Sent.ACCEPTED, [_WAITS, ("Cancelled", ""), _A], Act.RESTORE),
        (Sent.ACCEPTED, [_WAITS, ("Scheduled", "b"), _A], Act.RESTORE),
        (Sent.ACCEPTED, [_WAITS, ("Scheduled", "b"), _B, _A], Act.LOST),
        (Sent.ACCEPTED, [_WAITS, _A, ("Cancelled", "")], Act.LOST),
        (Sent.ACCEPTED, [_WAITS], Act.LET_LAND),
        (Sent.REFUSED, [_WAITS, _A], Act.OURS),
        (Sent.REFUSED, [_WAITS, _B], Act.LOST),
        (Sent.REFUSED, [_WAITS], Act.LATER),
        (Sent.UNANSWERED, [_WAITS, _A], Act.OURS),
        (Sent.UNANSWERED, [_WAITS], Act.LET_LAND),
        (Sent.UNANSWERED, [_WAITS, _B], Act.LET_LAND),
    ],
)
def test_what_is_done_at_the_first_look(sent: Sent, entries: list[tuple[str, str]], act: Act) -> None:
    assert Plan("a", 1).has_sent(sent).has_read(_history(*entries)).act is act


@pytest.mark.parametrize(
    ("entries", "act"),
    [([_WAITS], Act.SEND), ([_WAITS, _A], Act.OURS), ([_WAITS, _B], Act.LOST), ([_WAITS, _B, _WAITS], Act.LATER)],
)
def test_what_is_done_when_an_unanswered_claim_can_land_no_more(entries: list[tuple[str, str]], act: Act) -> None:
    plan = Plan("a", 1).has_sent(Sent.UNANSWERED).has_read(_history(_WAITS)).has_waited()
    assert plan.has_read(_history(*entries)).act is act


@pytest.mark.parametrize(
    ("entries", "act"),
    [([_WAITS], Act.LOST), ([_WAITS, _A], Act.OURS), ([_WAITS, _B, _A], Act.LOST), ([_WAITS, _A, _RUNS], Act.LOST)],
)
def test_what_is_done_after_a_restart(entries: list[tuple[str, str]], act: Act) -> None:
    plan = Plan.of_earlier_process("a", 1)
    assert plan.act is Act.LET_LAND, "nothing is decided before what was sent earlier can land no more"
    assert plan.has_waited().has_read(_history(*entries)).act is act


def test_a_run_that_is_gone_is_lost() -> None:
    assert Plan("a", 1).has_sent(Sent.ACCEPTED).has_read(None).act is Act.LOST


def test_an_answer_that_is_trusted_is_not_read_back() -> None:
    assert Plan("a", 1, trusts=True).has_sent(Sent.ACCEPTED).act is Act.OURS
    assert Plan("a", 1, trusts=True).has_sent(Sent.UNANSWERED).act is Act.READ
