"""Delays that double, with jitter."""

from __future__ import annotations

import pytest

from local_agent.aio.clock import Backoff


def test_delays_double_up_to_the_most_and_vary_by_a_quarter() -> None:
    backoff = Backoff(0.25, 2)
    for most in (0.25, 0.5, 1, 2, 2, 2):
        delay = backoff.next_seconds()
        assert 0.75 * most <= delay <= most


def test_a_reset_starts_again() -> None:
    backoff = Backoff(1, 64)
    for _ in range(5):
        backoff.next_seconds()
    backoff.reset()
    assert backoff.next_seconds() <= 1


def test_a_bound_of_its_own_replaces_the_usual_one() -> None:
    backoff = Backoff(1, 2)
    delays = [backoff.next_seconds(10) for _ in range(6)]
    assert delays[-1] >= 7.5
    assert backoff.next_seconds() <= 2, "and leaves it for the others"


def test_two_agents_do_not_ask_in_step() -> None:
    assert len({Backoff(1, 8).next_seconds() for _ in range(20)}) > 10


@pytest.mark.parametrize("most", [0.25, 0.1])
def test_the_first_delay_is_never_above_the_bound(most: float) -> None:
    assert Backoff(1, 8).next_seconds(most) <= most
