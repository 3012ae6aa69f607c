"""Agents that share a label at an API without a lock are killed again and again, and some flow runs are cancelled."""

from __future__ import annotations

import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from chaos import plays
from chaos.moments import Moments, every_moment
from chaos.plays import Play
from support.agent import AgentProcess
from support.api import Api
from support.api_client import moment, wait_until
from support.faults import FaultyProxy

_LABEL = "rivals"
_AGENTS = 3
_SHORT_CYCLES = 8
_LONG_CYCLES = 120
_MAX_LIFE_SECONDS = 4.0
_ENOUGH_SECONDS = 240.0
_CANCELLED_SHARE = 0.2


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API that lets every claim overwrite another."""
    with Api(tmp_path / "server.db", options=["--no-submit-lock"]) as running:
        yield running


@pytest.mark.timeout(3600)
def test_no_run_is_lost_or_run_twice(api: Api, folder: Callable[[str], Path], seed: int, long_form: bool) -> None:
    cycles = _LONG_CYCLES if long_form else _SHORT_CYCLES
    with ExitStack() as stack, ThreadPoolExecutor(_AGENTS) as beside:
        proxies = [stack.enter_context(FaultyProxy(api.url)) for _ in range(_AGENTS)]
        agents = [_agent(folder(f"agent-{n}"), proxy, api) for n, proxy in enumerate(proxies)]
        for agent in agents:
            stack.enter_context(agent).kill()
        lives = [
            beside.submit(_live_and_die, agent, proxy, random.Random(f"{seed} {n}"), cycles)
            for n, (agent, proxy) in enumerate(zip(agents, proxies, strict=True))
        ]
        crowd = Crowd(api, random.Random(seed))
        while not all(life.done() for life in lives):
            crowd.add_one()
        for life in lives:
            life.result()
        crowd.check(agents)


def _agent(folder: Path, proxy: FaultyProxy, api: Api) -> AgentProcess:
    options = ("--label", _LABEL, "--limit", "8")
    return AgentProcess(
        folder,
        proxy.url,
        *(*options, "--poll-interval", "0.5", "--request-timeout", "3"),
        environ={"PLAY_API": api.url},
    )


def _live_and_die(agent: AgentProcess, proxy: FaultyProxy, chance: random.Random, cycles: int) -> None:
    moments = Moments(agent, proxy, chance)
    deck = chance.sample(every_moment(), k=len(every_moment())) * (cycles // len(every_moment()) + 1)
    for at in deck[:cycles]:
        with moments.coming(at) as wait:
            agent.start()
            wait(_MAX_LIFE_SECONDS)
            agent.kill()
    agent.start()


class Crowd:
    """Flow runs that any of the agents may take, and what each must come to."""

    def __init__(self, api: Api, chance: random.Random) -> None:
        self._api = api
        self._chance = chance
        self._told: dict[str, Play] = {}
        self._cancelled: list[str] = []

    def add_one(self) -> None:
        """Create a flow run; some are cancelled while they wait, or just then."""
        play = plays.any_play(self._chance, 2)
        config = {"type": "LocalRun", "labels": [_LABEL], "env": {"PLAY": play.script}, "working_dir": None}
        flow = self._api.create_flow(uuid.uuid4().hex, run_config={**config, "__version__": "1.4.1"})
        run = self._api.create_flow_run(flow, scheduled_start_time=moment(self._chance.uniform(0, 1)))
        threading.Event().wait(self._chance.uniform(0, 0.5))
        if self._chance.random() < _CANCELLED_SHARE:
            self._api.cancel(run)
            self._cancelled.append(run)
        else:
            self._told[run] = play

    def check(self, agents: list[AgentProcess]) -> None:
        """Wait until all have ended, and fail where one has not come to what it must."""

        def explain() -> str:
            said = "\n".join(agent.console[-3000:] for agent in agents)
            return f"unfinished: {plays.unfinished(self._api, list(self._told))}; the agents said:\n{said}"

        wait_until(lambda: not plays.unfinished(self._api, list(self._told)), explain, seconds=_ENOUGH_SECONDS)
        for agent in agents:
            wait_until(lambda: not agent.records(), explain, seconds=_ENOUGH_SECONDS)  # noqa: B023 - asked before the loop goes on
        starts = [run for agent in agents for run in agent.starts()]
        problems = plays.wrong(self._api, self._told, starts)
        assert not problems, "\n".join(problems)
        self._check_the_cancelled(Counter(starts))

    def _check_the_cancelled(self, starts: Counter[str]) -> None:
        for run in self._cancelled:
            history = self._api.state_types(run)
            assert starts[run] <= 1, f"{run} was cancelled and started {starts[run]} times: {history}"
            if history[:2] == ["Scheduled", "Cancelled"]:
                assert starts[run] == 0, f"{run} was cancelled while it waited, and started: {history}"
                assert history[-1] == "Cancelled", history
