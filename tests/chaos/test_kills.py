"""kill -9 of the agent, again and again, at each step of a story: each flow run ends once and rightly."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chaos import plays
from chaos.moments import Moments, every_moment
from chaos.plays import Play
from support.agent import AgentProcess
from support.api import Api
from support.api_client import wait_until
from support.faults import FaultyProxy

_AGENTS = 3
_SHORT_CYCLES = 102
_LONG_CYCLES = 1002
_MAX_LIFE_SECONDS = 1.2
_ENOUGH_SECONDS = 240.0


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API of this test's own."""
    with Api(tmp_path / "server.db") as running:
        yield running


@pytest.mark.timeout(3600)
def test_each_run_ends_once_and_rightly(api: Api, folder: Callable[[str], Path], seed: int, long_form: bool) -> None:
    api.create_project()
    cycles = (_LONG_CYCLES if long_form else _SHORT_CYCLES) // _AGENTS
    with ThreadPoolExecutor(_AGENTS) as beside:
        lives = [
            beside.submit(
                _live_and_die,
                *(api, folder(f"agent-{number}"), random.Random(f"{seed} {number}"), cycles),
                # half a minute for each that is started again
                again=long_form and number == 0,
            )
            for number in range(_AGENTS)
        ]
        for life in lives:
            life.result()


def _live_and_die(api: Api, folder: Path, chance: random.Random, cycles: int, *, again: bool) -> None:
    policy, new_play = ("reschedule(1)", plays.any_crash) if again else ("fail", plays.any_play)
    told: dict[str, Play] = {}
    with (
        FaultyProxy(api.url) as proxy,
        AgentProcess(
            folder,
            proxy.url,
            *("--poll-interval", "0.5", "--request-timeout", "5", "--on-crash", policy),
            environ={"PLAY_API": api.url},
        ) as agent,
    ):
        agent.kill()
        moments = Moments(agent, proxy, chance)
        for moment in _shuffled(chance, cycles):
            for _ in range(chance.randint(1, 2)):
                play = new_play(chance, 3)
                told[agent.new_run(api, play.script)] = play
            with moments.coming(moment) as wait:
                agent.start()
                wait(_MAX_LIFE_SECONDS)
                agent.kill()
        agent.start()
        _check(api, agent, told)


def _shuffled(chance: random.Random, count: int) -> list[str]:
    """Return so many moments; each comes once before any comes again."""
    deck: list[str] = []
    while len(deck) < count:
        deck += chance.sample(every_moment(), k=len(every_moment()))
    return deck[:count]


def _check(api: Api, agent: AgentProcess, told: dict[str, Play]) -> None:
    def explain() -> str:
        return f"unfinished: {plays.unfinished(api, list(told))}; the agent said:\n{agent.console[-5000:]}"

    wait_until(lambda: not plays.unfinished(api, list(told)), explain, seconds=_ENOUGH_SECONDS)
    wait_until(lambda: not agent.records(), explain, seconds=_ENOUGH_SECONDS)
    problems = plays.wrong(api, told, agent.starts())
    assert not problems, "\n".join(problems)
    assert agent.leftovers() == []
    assert agent.processes() == []
    assert "Traceback" not in agent.console
