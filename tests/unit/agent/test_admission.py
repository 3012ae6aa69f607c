"""May this machine take one more flow run?"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from local_agent.agent.admission import Admission
from local_agent.settings import Settings
from support.samples import settings


@dataclass
class Host:
    """A launcher and settings that a test sets."""

    rules: Settings = field(default_factory=settings)
    against: Callable[[int], str] = lambda _: ""
    taken: int = 0

    def admission(self) -> Admission:
        """Return what decides here."""
        return Admission(lambda: self.rules, self)

    def room(self, held: int) -> str:
        """Say as the test does."""
        return self.against(held)

    def note_taken(self) -> None:
        """Count."""
        self.taken += 1


def test_without_a_limit_everything_is_taken() -> None:
    admission = Host().admission()
    assert all(admission.take(f"run-{number}") for number in range(1000))
    assert admission.free() is None


def test_a_place_is_held_until_it_is_left() -> None:
    admission = Host(rules=settings(limit=2)).admission()
    assert admission.take("a")
    assert admission.free() == 1
    assert admission.take("b")
    assert not admission.take("c")
    assert admission.reason_against() == "all 2 places are taken"
    admission.leave("a")
    assert admission.take("c")


def test_runs_that_live_here_already_count_even_above_the_limit() -> None:
    admission = Host(rules=settings(limit=1)).admission()
    admission.hold("a")
    admission.hold("b")
    assert admission.held == 2
    assert admission.free() == 0
    admission.leave("a")
    assert not admission.take("c")


def test_a_child_may_have_the_place_of_its_parent_once() -> None:
    """Who waits for it. So where a place is to be had by a flow run that others wait for, it gets one."""
    admission = Host(rules=settings(limit=1)).admission()
    assert admission.take("parent")
    assert not admission.take("stranger", "somewhere else")
    assert admission.take("child", "parent")
    assert not admission.take("second child", "parent"), "it has one place to give"
    assert admission.take("grandchild", "child"), "and so has a child, however deep"
    assert (admission.held, admission.free()) == (1, 0)
    admission.leave("grandchild")
    admission.leave("child")
    assert not admission.take("stranger"), "the parent has its place again"
    assert admission.take("second child", "parent")
    admission.leave("parent")
    assert admission.held == 1, "a child that outlives its parent keeps the place"
    admission.leave("second child")
    assert admission.take("stranger")


def test_what_else_keeps_runs_from_being_taken_keeps_children_too() -> None:
    admission = Host(rules=settings(limit=1)).admission()
    assert admission.take("parent")
    admission.draining = True
    assert not admission.lacks_only_places
    assert not admission.take("child", "parent")


def test_flow_runs_that_wait_for_flow_runs_never_stand_still() -> None:
    """Every forest of them comes to its end with any number of places, whichever is taken and ends next."""
    for seed in range(300):
        chance = random.Random(seed)
        parents = {number: chance.choice([None, *range(number)]) for number in range(1, chance.randint(2, 12))}
        most = chance.randint(1, 3)
        admission = Host(rules=settings(limit=most)).admission()
        waiting = {0, *(run for run, parent in parents.items() if parent is None)}
        live: set[int] = set()
        done: set[int] = set()
        while waiting or live:
            taken = next(
                (run for run in chance.sample(sorted(waiting), len(waiting)) if _take(admission, run, parents)), None
            )
            if taken is not None:
                waiting.remove(taken)
                live.add(taken)
                waiting |= {run for run, parent in parents.items() if parent == taken}
            over = [run for run in live if {child for child, parent in parents.items() if parent == run} <= done]
            assert taken is not None or over, f"seed {seed}: {live} wait, {waiting} find no place"
            if over:
                ended = chance.choice(over)
                live.remove(ended)
                done.add(ended)
                admission.leave(str(ended))
            busy = [run for run in live if not any(parents.get(child) == run for child in live)]
            assert len(busy) <= most, "no more work at once than there are places"
        assert done == {0, *parents}


def _take(admission: Admission, run: int, parents: dict[int, int | None]) -> bool:
    parent = parents.get(run)
    return admission.take(str(run), "" if parent is None else str(parent))


def test_a_reload_moves_the_limit() -> None:
    host = Host(rules=settings(limit=1))
    admission = host.admission()
    assert admission.take("a")
    host.rules = settings(limit=2)
    assert admission.take("b")


def test_draining_takes_none() -> None:
    admission = Host().admission()
    admission.draining = True
    assert admission.reason_against() == "draining"
    assert not admission.take("a")


def test_where_the_launcher_has_no_room_none_is_taken() -> None:
    """It is told how many are held, and of each that is taken."""
    host = Host(against=lambda held: "the queue is full" if held >= 2 else "")
    admission = host.admission()
    admission.hold("an earlier one")
    assert admission.take("a")
    assert not admission.take("b")
    assert admission.reason_against() == "the queue is full"
    assert host.taken == 1
