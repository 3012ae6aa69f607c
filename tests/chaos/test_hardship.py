"""Limits that are reached and files that vanish, again and again: each run ends once and rightly."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos import plays
from chaos.hardship import Hardship
from chaos.plays import Play
from support.agent import AgentProcess
from support.api import Api
from support.api_client import wait_until

_ENOUGH_SECONDS = 240.0


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API of this test's own."""
    with Api(tmp_path / "server.db") as running:
        yield running


@pytest.mark.timeout(3600)
def test_what_a_machine_does_for_a_moment(api: Api, folder: Callable[[str], Path], seed: int, long_form: bool) -> None:
    chance = random.Random(seed)
    told: dict[str, Play] = {}
    with AgentProcess(folder("agent"), api.url, "--poll-interval", "0.5") as agent:
        agent.wait_until_up()
        hardship, met = Hardship(agent, chance), Counter[str]()
        for _ in range(100 if long_form else 5):
            for _ in range(chance.randint(1, 6)):
                play = plays.any_play(chance, 2)
                told[agent.new_run(api, play.script)] = play
            met[hardship.next(3 if long_form else 1)] += 1
        print(dict(met))
        _check(api, agent, told)


def _check(api: Api, agent: AgentProcess, told: dict[str, Play]) -> None:
    def explain() -> str:
        return f"unfinished: {plays.unfinished(api, list(told))}; the agent said:\n{agent.console[-5000:]}"

    wait_until(lambda: not plays.unfinished(api, list(told)), explain, seconds=_ENOUGH_SECONDS)
    assert "Traceback" not in agent.console
    agent.kill()  # what it could not remove while its folder was away it finds at its next start
    agent.start()
    wait_until(lambda: not agent.records(), explain, seconds=_ENOUGH_SECONDS)
    problems = plays.wrong(api, told, agent.starts())
    assert not problems, "\n".join(problems)
    assert "Traceback" not in agent.console
    assert agent.processes() == []
