"""Can flow runs be started here at all? Asked of checks, and learned from launches that failed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from local_agent.agent.fitness import Fitness
from local_agent.errors import ManagerUnreachableError
from support.clock import SkippingClock


class Host:
    """A machine whose fitness a test sets."""

    def __init__(self) -> None:
        self.clock = SkippingClock()
        self.found: str | ManagerUnreachableError = ""
        self.doubts: list[bool] = []
        self.fitness = Fitness([self._check], self.clock)

    async def _check(self, in_doubt: bool, /) -> str:
        self.doubts.append(in_doubt)
        if isinstance(self.found, ManagerUnreachableError):
            raise self.found
        return self.found


async def test_what_a_check_says_stands_until_it_says_no_more() -> None:
    host = Host()
    host.found = "there is no interpreter"
    await host.fitness.look()
    assert host.fitness.reason_against() == "there is no interpreter"
    host.found = ""
    await host.fitness.look()
    assert host.fitness.reason_against() == ""


async def test_a_check_that_cannot_look_never_says_that_all_is_well() -> None:
    host = Host()
    host.found = ManagerUnreachableError("cannot reach the broker")
    await host.fitness.look()
    assert host.fitness.reason_against() == "cannot reach the broker"


async def test_a_check_that_meets_a_limit_itself_is_a_reason(tmp_path: Path) -> None:
    async def check(_in_doubt: bool, /) -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(tmp_path))

    fitness = Fitness([check], SkippingClock())
    await fitness.look()
    assert "Too many open files" in fitness.reason_against()


async def test_checks_look_closer_at_the_start_and_while_in_doubt() -> None:
    host = Host()
    await host.fitness.look()
    await host.fitness.look()
    host.fitness.launch_failed("no")
    await host.fitness.look()
    host.found = "no broker"
    await host.fitness.look()
    await host.fitness.look()
    assert host.doubts == [True, False, True, False, True]


async def test_after_a_failed_launch_one_is_tried_now_and_then_until_one_starts() -> None:
    host = Host()
    tried_at: list[float] = []
    began = host.clock.monotonic()
    host.fitness.launch_failed("it went wrong")
    assert host.fitness.reason_against() == "the last one could not be started: it went wrong"
    while len(tried_at) < 6:
        if host.fitness.reason_against():
            await host.clock.sleep(1)
            continue
        tried_at.append(host.clock.monotonic() - began)
        host.fitness.taken()
        assert host.fitness.reason_against(), "no other while the trial is under way"
        host.fitness.launch_failed("it went wrong again")
    assert tried_at[0] <= 6
    assert 40 <= tried_at[-1] - tried_at[-2] <= 61
    await host.clock.sleep(61)
    host.fitness.taken()
    host.fitness.launched()
    assert host.fitness.reason_against() == ""


async def test_many_failures_at_once_count_as_one() -> None:
    host = Host()
    for _ in range(500):
        host.fitness.launch_failed("no")
    await host.clock.sleep(6)
    assert host.fitness.reason_against() == ""
