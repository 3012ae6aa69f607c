"""Several agents share a label at an API that lets every claim overwrite another: each flow run is run once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chaos import plays
from support.agent import AgentProcess
from support.api import Api
from support.api_client import wait_until
from support.faults import FaultyProxy

_LABEL = "shared"
_SHORT_COUNT = 100
_LONG_COUNT = 500
_ENOUGH_SECONDS = 600.0
_SHORT_ENOUGH_SECONDS = 180.0
_SECONDS = 0.2
_DUE_IN_SECONDS = 6.0


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API without the submit lock, as a Server with several replicas is."""
    with Api(tmp_path / "server.db", options=["--no-submit-lock"]) as running:
        yield running


@pytest.mark.parametrize(
    ("limits", "options"),
    [((15, 45), ()), ((4, 8, 12, 16, 20), ()), ((15, 45), ("--claim-check", "always"))],
    ids=["two", "five", "two that always wait"],
)
@pytest.mark.timeout(900)
def test_no_run_is_lost_or_run_twice(
    api: Api, folder: Callable[[str], Path], limits: tuple[int, ...], options: tuple[str, ...], long_form: bool
) -> None:
    play = plays.succeeds(_SECONDS)
    agents = [_agent(folder(f"agent-{limit}"), api.url, api, limit, *options) for limit in limits]
    with ExitStack() as stack:
        for agent in agents:
            stack.enter_context(agent).wait_for("Registered at")
        # every agent has them by then, and all claim them in the same moment
        count = _LONG_COUNT if long_form else _SHORT_COUNT
        runs = api.create_flow_runs(_new_flow(api, play), count, start_in=_DUE_IN_SECONDS)
        wait_until(
            lambda: not plays.unfinished(api, runs),
            lambda: _standing_of(api, runs) + "\n".join(agent.console[-2000:] for agent in agents),
            seconds=_ENOUGH_SECONDS if long_form else _SHORT_ENOUGH_SECONDS,
        )
        for agent in agents:
            agent.wait_until_forgotten()
        starts = [run for agent in agents for run in agent.starts()]
        problems = plays.wrong(api, dict.fromkeys(runs, play), starts)
        assert not problems, "\n".join(problems)
        _check_the_spread([len(agent.starts()) for agent in agents], limits)
        _check_that_they_were_rivals(api, runs)


@pytest.mark.timeout(180)
def test_a_claim_that_lands_late_comes_too_late(api: Api, folder: Callable[[str], Path]) -> None:
    """It lies on top of the other agent's, whose flow run has started and not told the API yet."""
    play = plays.Play("nap 8\nexit 3", "Failed", "Exited with code 3 before the flow started")
    with (
        FaultyProxy(api.url) as proxy,
        _agent(folder("late"), proxy.url, api, 1, "--request-timeout", "100") as late,
    ):
        late.wait_for("Registered at")
        held, release = proxy.hold("set_flow_run_states")
        run = api.create_flow_run(_new_flow(api, play))
        held.wait_for_hits()
        with _agent(folder("prompt"), api.url, api, 1) as prompt:
            prompt.wait_for("started: PID")
            release.set()
            api.wait_for_state(run, "Failed")
            prompt.wait_until_forgotten()
            late.wait_until_forgotten()
            assert not plays.wrong(api, {run: play}, prompt.starts())
            assert late.starts() == []
            assert api.state_types(run) == ["Scheduled", "Submitted", "Submitted", "Failed"]


def _new_flow(api: Api, play: plays.Play) -> str:
    config = {"type": "LocalRun", "labels": [_LABEL], "env": {"PLAY": play.script}, "working_dir": None}
    return api.create_flow(run_config={**config, "__version__": "1.4.1"})


def _agent(folder: Path, url: str, api: Api, limit: int, *more: str) -> AgentProcess:
    options = ("--label", _LABEL, "--limit", str(limit), *more)
    return AgentProcess(folder, url, *options, environ={"PLAY_API": api.url})


def _standing_of(api: Api, runs: list[str]) -> str:
    """Say how many flow runs are in which state."""
    return f"{dict(Counter(api.states_of(runs).values()))}; the agents said:\n"


def _check_that_they_were_rivals(api: Api, runs: list[str]) -> None:
    """Some flow runs were claimed by several agents at once: else nothing was tried."""
    claims = [sum(state["type"] == "Submitted" for state in past) for past in plays.histories(api, runs).values()]
    assert max(claims) > 1, "no flow run was claimed twice"


def _check_the_spread(counts: list[int], limits: tuple[int, ...]) -> None:
    """Whoever has more places takes more, and nobody stands by."""
    words = f"agents with {limits} places took {counts}"
    assert min(counts) > 0, words
    assert counts[-1] >= counts[0], words
