"""Answers as no API gives them, to a real agent. `make fuzz-api` sends it 100,000; FUZZ_SEED repeats a run."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from support.agent import AgentProcess
from support.api import Api
from support.api_client import wait_until
from support.faults import Answer, Exchange, FaultyProxy, passed_on
from support.mutation import Mutator

ANSWERS = int(os.environ.get("FUZZ_ANSWERS", "400"))
_SPOILT_SHARE = 0.8
_LATER_SHARE = 0.3  # while good runs are waited for, which have to get through
_STATUSES = [200] * 5 + [302, 400, 413, 500]
_BAD = 8  # of each kind, beside the good ones of a page
_ROUND = max(400, ANSWERS // 20)  # answers, after which there are new runs
_POKE_SECONDS = 0.002
_ROUND_SECONDS = 3600.0
_ENOUGH_SECONDS = 240.0
_ASKED_ANEW = ("get_runs_in_queue", "scheduled_start_time", "register_agent", "hello", "last_queried")
_PLAY = "report Running\nreport Success"


class Spoiler:
    """Spoils a share of the answers, and counts what was spoilt."""

    def __init__(self, seed: int) -> None:
        self.good: set[str] = set()
        self.count = 0
        self.share = _SPOILT_SHARE
        self._known: dict[str, bytes] = {}
        self._chance = random.Random(seed)
        self._mutator = Mutator(self._chance, self.good)
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> Answer:
        """Answer a request, perhaps not as the API does. What sets states is always done."""
        with self._lock:
            is_spoilt = self._chance.random() < self.share
            known = self._known.get(_kind_of(exchange.query)) if is_spoilt else None
        answer = (200, "application/json", known) if known else passed_on(exchange)
        with self._lock:
            if answer is None or not is_spoilt:
                return self._remembered(exchange, answer)
            self.count += 1
            status = self._chance.choice(_STATUSES)
            return status, answer[1], self._mutator.spoiled(answer[2])

    def _remembered(self, exchange: Exchange, answer: Answer) -> Answer:
        """Return an honest answer, and keep it to be spoilt where an old one is no lie about a run that is claimed."""
        if answer is not None and any(word in exchange.query for word in _ASKED_ANEW):
            self._known[_kind_of(exchange.query)] = answer[2]
        return answer


def _kind_of(query: str) -> str:
    """Return a query without the ids in it."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9T:.+-]{20,}", "", query)


@pytest.mark.timeout(7200)
def test_nothing_that_an_api_answers_ends_the_agent_or_keeps_good_runs_from_starting(api: Api, folder: Path) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "0")) or random.randrange(1, 1 << 31)
    print(f"FUZZ_SEED={seed}")
    options = ("--request-timeout", "1", "--poll-interval", "0.05", "--limit", "40")
    spoiler = Spoiler(seed)
    with (
        FaultyProxy(api.url) as proxy,
        AgentProcess(folder, proxy.url, *options, environ={"PLAY_API": api.url}) as agent,
    ):
        agent.wait_for("Registered at")
        good = agent.new_flow(api, _PLAY)
        bad = [agent.new_flow(api, _PLAY), agent.new_flow(api, _PLAY, type="DockerRun")]
        proxy.add(spoiler)
        began = time.monotonic()
        while spoiler.count < ANSWERS:
            print(f"{time.monotonic() - began:.0f} s: {spoiler.count} answers were spoilt", flush=True)
            runs = api.create_flow_runs(good, 3)
            spoiler.good.update(runs)
            beside = [run for flow in bad for run in api.create_flow_runs(flow, _BAD)]
            spoiler.share = _SPOILT_SHARE
            _until_spoilt(spoiler, agent, min(ANSWERS, spoiler.count + _ROUND))
            print(f"{time.monotonic() - began:.0f} s: {spoiler.count}, waiting for good runs", flush=True)
            spoiler.share = _LATER_SHARE
            _wait_for_success(api, agent, runs)
            spoiler.good.difference_update(runs)
            for run in beside:
                api.delete_flow_run(run)  # a page has 25, and those that are left alone stay on it
        proxy.clear()
        (last,) = api.create_flow_runs(good, 1)
        _wait_for_success(api, agent, [last])
        assert "fault of local-agent itself" not in agent.console, f"FUZZ_SEED={seed}\n{agent.console[-3000:]}"
        assert not _is_unprintable(agent.console)
        starts = agent.starts()
        assert len(starts) == len(set(starts)), f"FUZZ_SEED={seed}: a run was started twice"
    print(f"{spoiler.count} answers were spoilt")


def _until_spoilt(spoiler: Spoiler, agent: AgentProcess, count: int) -> None:
    deadline = time.monotonic() + _ROUND_SECONDS
    while spoiler.count < count:
        agent.send(signal.SIGUSR1)  # it does not wait after what was an outage
        assert time.monotonic() < deadline, f"{spoiler.count} of {count}; the agent said:\n{agent.said[-3000:]}"
        time.sleep(_POKE_SECONDS)


def _wait_for_success(api: Api, agent: AgentProcess, runs: list[str]) -> None:
    def reached() -> bool:
        agent.send(signal.SIGUSR1)
        time.sleep(0.05)
        return all(api.state(run) == "Success" for run in runs)

    wait_until(
        reached,
        lambda: f"{[api.state_types(run) for run in runs]}; the agent said:\n{agent.said[-3000:]}",
        seconds=_ENOUGH_SECONDS,
    )


def _is_unprintable(text: str) -> bool:
    return any(not char.isprintable() for char in text if char != "\n")
