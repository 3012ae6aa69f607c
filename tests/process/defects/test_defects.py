"""What the original agent got wrong and no other test is about: docs/defects.md has all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from local_agent.errors import UnavailableError
from support.agent import SAYS_VERSION, AgentProcess, pid_in
from support.api import Api
from support.api_client import moment, wait_until
from support.faults import FaultyProxy

_CLAIM = "set_flow_run_states"
_SUCCEEDS = "report Running\nreport Success"
_NOTES_ITSELF = f'{SAYS_VERSION}\necho "$PREFECT__CONTEXT__FLOW_RUN_ID" >>"$PLAY_STARTS"; exit 3'
_ONCE = ["Scheduled", "Submitted", "Running", "Success"]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API like a Prefect Server of several replicas: it lets a flow run be submitted twice at once."""
    with Api(tmp_path_factory.mktemp("no-lock") / "server.db", options=["--no-submit-lock"]) as running:
        yield running


@pytest.fixture
def proxy(api: Api) -> Iterator[FaultyProxy]:
    """What goes wrong between the agent and the API."""
    with FaultyProxy(api.url) as running:
        yield running


def _impatient(folder: Path, api: Api, proxy: FaultyProxy) -> AgentProcess:
    return AgentProcess(folder, proxy.url, "--request-timeout", "2", environ={"PLAY_API": api.url})


def test_a_claim_whose_answer_is_lost_is_launched_once(api: Api, proxy: FaultyProxy, tmp_path: Path) -> None:
    with _impatient(tmp_path / "agent", api, proxy) as agent:
        lost = proxy.lose_answer(_CLAIM)
        run = agent.new_run(api, _SUCCEEDS)
        lost.wait_until_finished()
        api.wait_for_state(run, "Success")
        agent.wait_until_forgotten()
        assert agent.starts() == [run]
        assert api.state_types(run) == _ONCE


def test_an_outage_during_a_claim_fails_no_run(api: Api, proxy: FaultyProxy, tmp_path: Path) -> None:
    with _impatient(tmp_path / "agent", api, proxy) as agent:
        down = proxy.answer(503, _CLAIM, times=2)
        run = agent.new_run(api, _SUCCEEDS)
        down.wait_until_finished(2)
        api.wait_for_state(run, "Success")
        agent.wait_until_forgotten()
        assert agent.starts() == [run]
        assert api.state_types(run) == _ONCE


@pytest.mark.timeout(120)
def test_two_agents_run_each_run_once_where_the_api_has_no_lock(api: Api, tmp_path: Path) -> None:
    first, second = (AgentProcess(tmp_path / name, api.url) for name in ("first", "second"))
    second.label = first.label
    flow = first.new_flow(api, _SUCCEEDS)
    with first, second:
        for agent in (first, second):
            agent.wait_for("Registered at")
        runs = api.create_flow_runs(flow, 20, start_in=2)  # both have them before they are due
        wait_until(lambda: set(api.states_of(runs).values()) == {"Success"}, lambda: f"{first.said}\n\n{second.said}")
        for agent in (first, second):
            agent.wait_until_forgotten()
        assert sorted(first.starts() + second.starts()) == sorted(runs)


def test_a_run_that_is_scheduled_again_is_run_again_by_the_same_agent(api: Api, tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path / "agent", api.url, python=_NOTES_ITSELF)
    flow = api.create_flow(agent.label, labels=[agent.label])
    with agent:
        runs = api.create_flow_runs(flow, 20)
        for times in (1, 2):
            _wait_for_starts(agent, times * len(runs))
            wait_until(lambda: set(api.states_of(runs).values()) == {"Failed"}, lambda: agent.said)
            agent.wait_until_forgotten()
            assert sorted(agent.starts()) == sorted(runs * times)
            for run in runs if times == 1 else ():
                api.set_state(run, {"type": "Scheduled", "start_time": moment(0), "message": "by a test"})


def test_a_flow_run_has_a_session_of_its_own_and_no_terminal(api: Api, tmp_path: Path) -> None:
    """Ctrl-C at the agent's terminal reaches no flow run, and none can read what is typed there."""
    folder = tmp_path / "agent"
    with AgentProcess(folder, api.url) as agent:
        run = agent.new_run(api, f"report Running\ntouch {folder}/pid\nawait {folder}/go\nreport Success")
        pid = pid_in(folder / "pid")
        assert os.getsid(pid) != os.getsid(agent.pid)
        assert os.getpgid(pid) != os.getpgid(agent.pid)
        assert Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")
        (folder / "go").touch()
        api.wait_for_state(run, "Success")
        agent.wait_until_forgotten()


def test_max_polls_ends_at_the_last_poll_and_not_after_the_pause_behind_it(api: Api, tmp_path: Path) -> None:
    """By then that pause would be minutes long; each poke cuts one short, but for the last."""
    polls = 12
    # with the hostname's label it does not look for runs that lack it, which is asking the queue, too
    options = ("--max-polls", str(polls), "--poll-interval", "300", "--hostname-label")
    with AgentProcess(tmp_path / "agent", api.url, *options) as agent:
        agent.wait_for("Registered at")
        for number in range(1, polls):
            _wait_for_polls(agent, api, number)
            with suppress(UnavailableError):  # the first pauses are short, so it may be ahead
                agent.ask("poke")
        assert agent.wait() == 0
        assert agent.count_polls(api) == polls


def _wait_for_starts(agent: AgentProcess, count: int) -> None:
    wait_until(lambda: len(agent.starts()) >= count, lambda: agent.said)


def _wait_for_polls(agent: AgentProcess, api: Api, count: int) -> None:
    wait_until(lambda: agent.count_polls(api) >= count, lambda: agent.said)
