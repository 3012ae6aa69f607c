"""The API's time: its own word counts, the Date of an answer only where there is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from local_agent.backends.prefect1.api_clock import ApiClock

_TRUE = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_TWO_DAYS = timedelta(days=2)
_NEAR = timedelta(seconds=2)


class World:
    """True time, this machine's clock, the API's, and that of a proxy that writes the Date."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.here = self.api = self.proxy = timedelta(0)
        self.clock = ApiClock(lambda: self.true + self.here, lambda: 5000.0 + self.passed)
        self.stands_still_since: datetime | None = None
        self.asked = 0

    @property
    def true(self) -> datetime:
        """True time."""
        return _TRUE + timedelta(seconds=self.passed)

    def poll(self, seconds: float = 2.0) -> None:
        """Let time pass and poll, as the backend does."""
        self.passed += seconds
        sent = 5000.0 + self.passed
        polled_at = self.stands_still_since or self.true + self.api
        self.passed += 0.2
        self.clock.hear_date(format_datetime(self.true + self.proxy, usegmt=True))
        if self.clock.is_to_be_asked:
            self.asked += 1
            self.clock.hear(polled_at, sent, 5000.0 + self.passed)

    def is_right(self) -> bool:
        """Whether the API's time is known."""
        return abs(self.clock.now() - (self.true + self.api)) < _NEAR


@pytest.mark.parametrize("here", [timedelta(0), _TWO_DAYS, -_TWO_DAYS])
@pytest.mark.parametrize("api", [timedelta(0), _TWO_DAYS, -_TWO_DAYS, timedelta(seconds=-40)])
@pytest.mark.parametrize("proxy", [timedelta(0), _TWO_DAYS, -_TWO_DAYS])
def test_the_apis_time_is_known_whoever_else_is_wrong(here: timedelta, api: timedelta, proxy: timedelta) -> None:
    world = World()
    world.here, world.api, world.proxy = here, api, proxy
    for _ in range(5):
        world.poll()
    assert world.is_right()
    assert world.clock.ahead_seconds == pytest.approx((here - api).total_seconds(), abs=2)
    earlier = world.clock.earlier_now()
    assert abs(earlier - (world.true + min(here, api))) < timedelta(seconds=12), "no run starts early"


def test_it_is_asked_once_where_all_agree_and_now_and_then_later() -> None:
    world = World()
    for _ in range(100):
        world.poll()
    assert world.asked == 1
    world.poll(600)
    assert world.asked == 2


def test_a_clock_of_the_api_that_is_set_is_followed() -> None:
    world = World()
    world.poll()
    for step in (_TWO_DAYS, timedelta(0), -_TWO_DAYS):
        world.api = world.proxy = step
        for _ in range(5):
            world.poll()
        assert world.is_right()


def test_this_machines_clock_may_be_set_meanwhile() -> None:
    world = World()
    world.poll()
    world.here = _TWO_DAYS
    assert world.is_right()


def test_an_api_that_seldom_says_when_it_was_polled_is_not_believed() -> None:
    world = World()
    world.stands_still_since = _TRUE - _TWO_DAYS
    for _ in range(10):
        world.poll()
    assert world.is_right(), "the Date counts"
    assert world.clock.earlier_now() == world.true


def test_without_any_word_it_is_this_machines_time() -> None:
    world = World()
    world.clock.hear_date("nonsense")
    world.clock.hear(None, 0, 0)
    assert world.clock.now() == world.true
    assert world.clock.ahead_seconds is None


def test_a_date_alone_keeps_nothing_from_starting() -> None:
    world = World()
    world.clock.hear(None, 0, 0)
    world.clock.hear_date(format_datetime(world.true - _TWO_DAYS, usegmt=True))
    assert world.clock.earlier_now() == world.true
