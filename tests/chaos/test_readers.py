"""Who reads the agent's console stops, again and again: no run waits for it, and what is lost is counted."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos import plays
from chaos.plays import Play
from support.api import Api
from support.api_client import wait_until
from support.piped import PipedAgent

_LOST = re.compile(r"(\d+) messages of this agent were lost while the console did not read")
_ENOUGH_SECONDS = 240.0


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API of this test's own."""
    with Api(tmp_path / "server.db") as running:
        yield running


@pytest.mark.timeout(7200)
def test_a_console_that_stops_and_goes_on(api: Api, folder: Callable[[str], Path], seed: int, long_form: bool) -> None:
    chance = random.Random(seed)
    options = ("--show-flow-logs", "--log-level", "DEBUG", "--poll-interval", "0.5")
    with PipedAgent(folder("piped"), api.url, *options) as agent:
        agent.wait_until_up()
        told: dict[str, Play] = {}
        for _ in range(40 if long_form else 3):
            for _ in range(chance.randint(3, 8)):
                play = plays.any_play(chance, 1)
                loud = Play(f"say {'x' * 2000}\n{play.script}", play.state, play.message)
                told[agent.new_run(api, loud.script)] = loud
            agent.ask("poke")
            _wait(chance.uniform(0, 30 if long_form else 2))  # nobody reads
            agent.drain()
        _check(api, agent, told)
        said = agent.said
        lost = sum(int(found) for found in _LOST.findall(said))
        assert len(re.findall(r" ended: ", said)) + lost >= len(told)
        code, seconds = agent.stop()
        assert code == 0
        assert seconds < 30


def _check(api: Api, agent: PipedAgent, told: dict[str, Play]) -> None:
    def explain() -> str:
        return f"unfinished: {plays.unfinished(api, list(told))}; the agent said:\n{agent.said[-5000:]}"

    wait_until(lambda: not plays.unfinished(api, list(told)), explain, seconds=_ENOUGH_SECONDS)
    wait_until(lambda: not agent.records(), explain, seconds=_ENOUGH_SECONDS)
    problems = plays.wrong(api, told, agent.starts())
    assert not problems, "\n".join(problems)
    assert agent.leftovers() == []


def _wait(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, lambda: "", seconds=seconds + 60)
