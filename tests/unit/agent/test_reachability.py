"""Whether the API answers, said once, and what /api/health makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

import pytest

from local_agent import events
from local_agent.agent.progress import Progress
from local_agent.agent.reachability import Reachability
from local_agent.errors import ApiUnreachableError
from local_agent.service.health import Health, judge
from support.clock import SkippingClock
from support.samples import ListLog


@dataclass
class Bed:
    """An API that a test lets answer or fail."""

    clock: SkippingClock = field(default_factory=SkippingClock)
    log: ListLog = field(default_factory=ListLog)

    def __post_init__(self) -> None:
        self.reach = Reachability(self.log, self.clock)
        self.progress = Progress(self.clock.monotonic)

    def fail(self, message: str = "the API does not answer: Connection refused") -> None:
        """Let a request fail."""
        self.reach.failed(ApiUnreachableError(message))

    def health(self) -> Health:
        """Return what /api/health says, where five minutes are allowed."""
        return judge(self.progress, self.reach, 300)


def test_an_outage_is_said_once_and_its_end_once() -> None:
    bed = Bed()
    bed.reach.answered()
    for _ in range(5):
        bed.clock.advance(60)
        bed.fail()
    bed.reach.answered()
    bed.reach.answered()
    assert bed.log.events == [events.API_LOST, events.API_BACK]
    assert bed.log.said[1][2] == {"outage": "4min"}
    bed.fail()
    assert bed.log.events[2:] == [events.API_LOST], "the next one is another"


def test_an_api_that_answers_from_the_start_is_no_news() -> None:
    bed = Bed()
    bed.reach.answered()
    assert bed.log.events == []


def test_it_says_how_it_stands() -> None:
    bed = Bed()
    assert bed.reach.in_words() == "API unreachable for 0s: it has not answered yet"
    bed.reach.answered()
    bed.clock.advance(2)
    assert bed.reach.in_words() == "API answered 2s ago"
    bed.fail("no route")
    bed.clock.advance(240)
    bed.fail("timed out")
    assert bed.reach.in_words() == "API unreachable for 4min: timed out"


def test_health_is_bad_only_when_an_outage_has_lasted() -> None:
    bed = Bed()
    bed.reach.answered()
    bed.fail("no route")
    bed.clock.advance(100)
    bed.progress.mark()
    assert bed.health().status is HTTPStatus.OK
    assert bed.health().as_json() == {"status": "ok"}
    for _ in range(3):
        bed.clock.advance(100)
        bed.progress.mark()
    bed.clock.advance(1)
    assert bed.health().status is HTTPStatus.SERVICE_UNAVAILABLE
    assert bed.health().as_json() == {"status": "failing", "problem": "no route", "for_seconds": 401}


def test_health_is_bad_when_the_loop_is_stuck() -> None:
    bed = Bed()
    bed.reach.answered()
    bed.progress.mark(10)
    bed.clock.advance(69)
    assert not bed.progress.is_stuck
    bed.clock.advance(2)
    assert bed.health().as_json() == {"status": "failing", "problem": "the agent's loop is stuck", "for_seconds": 71}
    bed.progress.mark()
    assert bed.health().status is HTTPStatus.OK


@pytest.mark.parametrize("means_to_be_away_seconds", [0.25, 150, 3600, 86400])
def test_a_loop_that_is_away_for_as_long_as_it_said_is_well(means_to_be_away_seconds: float) -> None:
    """As with `poll_interval = 1h`: the watchdog must not end an agent that does as it was told."""
    bed = Bed()
    bed.reach.answered()
    bed.progress.mark(means_to_be_away_seconds)
    bed.clock.advance(means_to_be_away_seconds + 59)
    assert bed.health().status is HTTPStatus.OK
    bed.clock.advance(2)
    assert bed.health().status is HTTPStatus.SERVICE_UNAVAILABLE
