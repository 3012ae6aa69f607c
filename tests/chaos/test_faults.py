"""Whatever the API answers, and whatever its clock says: no flow run is lost, failed unseen, or run twice."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chaos import plays
from chaos.mischief import Mischief
from chaos.plays import Play
from support.agent import AgentProcess
from support.api import Api
from support.api_client import moment, wait_until
from support.faults import FaultyProxy
from support.shifted_api import ShiftedApi

_TIMEOUT_SECONDS = 1.0
_SLOW_SECONDS = 1.5
_ENOUGH_SECONDS = 600.0  # of ten polls with half of all requests failing, one in ten seconds, some two get through
_MUST_MEET_ALL = ("poll", "set states", "read a claim back", "read an end")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ShiftedApi]:
    """An API of this test's own."""
    with ShiftedApi(tmp_path / "server.db") as running:
        yield running


def _agent(folder: Path, proxy: FaultyProxy, api: Api, *options: str) -> AgentProcess:
    return AgentProcess(
        folder,
        proxy.url,
        *("--request-timeout", str(_TIMEOUT_SECONDS), "--poll-interval", "0.5", *options),
        environ={"PLAY_API": api.url},
    )


@pytest.mark.timeout(7200)
def test_no_run_is_lost_or_run_twice(
    api: ShiftedApi, folder: Callable[[str], Path], seed: int, long_form: bool
) -> None:
    with (
        closing(Mischief(seed, _SLOW_SECONDS)) as mischief,
        FaultyProxy(api.url) as proxy,
        _agent(folder("fails"), proxy, api) as failing,
        _agent(folder("again"), proxy, api, "--on-crash", "reschedule(1)", "--claim-check", "never") as rescheduling,
    ):
        crowd = Crowd(api, failing, rescheduling, random.Random(seed))
        for agent in (failing, rescheduling):
            agent.wait_for("Registered at")
        proxy.add(mischief)
        for shift_seconds in (300.0, -300.0, 0.0) * (5 if long_form else 1):
            crowd.grow(40 if long_form else 10)
            outage = proxy.answer(503, body="down for maintenance")
            outage.wait_for_hits(4)
            _wait(70 if long_form else 2)
            api.kill()
            api.shift_seconds = shift_seconds
            api.start()
            proxy.clear()
            proxy.add(mischief)
        # those that are started again have a lock of half a minute to wait for, so they come first
        crowd.crash_share = 0.0
        crowd.grow(10, until=lambda: not any(mischief.missing(operation) for operation in _MUST_MEET_ALL))
        if not long_form:
            proxy.clear()
            crowd.hurry()
        crowd.check()


class Crowd:
    """Flow runs of two agents, and what each of them must come to."""

    def __init__(self, api: Api, failing: AgentProcess, rescheduling: AgentProcess, chance: random.Random) -> None:
        """Given an agent that fails what crashes, and one that starts it again."""
        self._api = api
        self._agents = (failing, rescheduling)
        self._told: tuple[dict[str, Play], dict[str, Play]] = ({}, {})
        self._chance = chance
        self.crash_share = 0.4

    def grow(self, count: int, until: Callable[[], bool] = lambda: True) -> None:
        """Create so many flow runs, and more until something is true."""
        deadline = time.monotonic() + _ENOUGH_SECONDS
        while count > 0 or not until():
            assert time.monotonic() < deadline, "so many runs and no end"
            self._add_one()
            count -= 1
            for agent in self._agents:
                agent.ask("poke")  # after an outage it would poll every ten seconds only
            time.sleep(self._chance.uniform(0.1, 0.5))

    def _add_one(self) -> None:
        number = int(self._chance.random() < self.crash_share)
        play = plays.crashes_once(self._chance.uniform(0, 2)) if number else plays.any_play(self._chance, 2)
        flow = self._agents[number].new_flow(self._api, play.script)
        # due now by this machine's clock, whatever the API's says
        self._told[number][self._api.create_flow_run(flow, scheduled_start_time=moment(0))] = play

    def hurry(self) -> None:
        """Make the agents look again at what they leave alone for half a minute: changed settings do that."""
        for agent in self._agents:
            settings = agent.folder / "etc" / "agent.toml"
            settings.parent.mkdir(exist_ok=True)
            settings.write_text("cancel_grace = 29\n")
            agent.ask("reload")

    def check(self) -> None:
        """Wait until all have ended, and fail where one has not come to what it must."""
        for agent, told in zip(self._agents, self._told, strict=True):
            explain = functools.partial(self._explain, agent, told)
            wait_until(lambda: not plays.unfinished(self._api, list(told)), explain, seconds=_ENOUGH_SECONDS)  # noqa: B023 - asked before the loop goes on
            wait_until(lambda: not agent.records(), explain, seconds=_ENOUGH_SECONDS)  # noqa: B023 - asked before the loop goes on
            problems = plays.wrong(self._api, told, agent.starts())
            assert not problems, "\n".join(problems)
            assert agent.leftovers() == []

    def _explain(self, agent: AgentProcess, told: dict[str, Play]) -> str:
        return f"unfinished: {plays.unfinished(self._api, list(told))}; the agent said:\n{agent.console[-5000:]}"


def _wait(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, lambda: "", seconds=seconds + 60)
