"""The API goes away and comes back; the agent stays."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from signal import Signals

import pytest

from support.agent import AgentProcess, is_alive, pid_in
from support.api import Api
from support.faults import FaultyProxy

_LOST = "trying again until it answers"
_BACK = "The API answers again after"
_STOP_SECONDS = 5.0  # it takes 0.05 s on an idle machine


@pytest.fixture
def proxy(api: Api) -> Iterator[FaultyProxy]:
    """What goes wrong between the agent and the API."""
    with FaultyProxy(api.url) as running:
        yield running


def test_an_api_that_is_down_at_start_and_later(api: Api, proxy: FaultyProxy, folder: Path) -> None:
    refusals = proxy.refuse()
    agent = AgentProcess(folder, proxy.url, environ={"PLAY_API": api.url})
    with agent:
        first = agent.new_run(api, "report Running\nreport Success")
        refusals.wait_for_hits(3)
        assert agent.said.count(_LOST) == 1
        assert "API unreachable for" in agent.ask("status")
        proxy.clear()
        agent.wait_for(_BACK)
        api.wait_for_state(first, "Success")

        refusals = proxy.answer(503, body="<html>down for maintenance</html>", kind="text/html")
        refusals.wait_for_hits(4)
        proxy.clear()
        agent.wait_for(_BACK, 2)
        second = agent.new_run(api, "report Running\nreport Success")
        api.wait_for_state(second, "Success")
        agent.wait_until_forgotten()
        assert agent.said.count(_LOST) == 2
        assert "Traceback" not in agent.said


def test_an_end_in_an_outage_is_reported_after_it(api: Api, proxy: FaultyProxy, folder: Path) -> None:
    agent = AgentProcess(folder, proxy.url, environ={"PLAY_API": api.url})
    with agent:
        run = agent.new_run(api, f"report Running\nawait {folder}/go\nexit 3")
        api.wait_for_state(run, "Running")
        proxy.answer(500)
        (folder / "go").touch()
        agent.wait_for("is not reported yet")
        assert agent.records() == [run]
        proxy.clear()
        api.wait_for_state(run, "Failed")
        agent.wait_until_forgotten()
        assert agent.said.count("is not reported yet") == 1
        assert api.states(run)[-1]["message"] == "Exited with code 3"


@pytest.mark.parametrize("number", [Signals.SIGTERM, Signals.SIGINT])
def test_a_stop_in_an_outage_is_quick_and_leaves_flow_runs(
    api: Api, proxy: FaultyProxy, folder: Path, number: Signals
) -> None:
    agent = AgentProcess(folder, proxy.url, environ={"PLAY_API": api.url})
    with agent:
        run = agent.new_run(api, f"report Running\ntouch {folder}/pid\nawait {folder}/go\nreport Success")
        pid = pid_in(folder / "pid")
        errors = proxy.answer(500)
        errors.wait_for_hits(2)
        code, seconds = agent.stop(number)
        assert code == 0
        assert seconds < _STOP_SECONDS
        assert is_alive(pid)
        (folder / "go").touch()
        api.wait_for_state(run, "Success")


def test_a_stop_while_the_api_swallows_every_request_is_quick(api: Api, proxy: FaultyProxy, folder: Path) -> None:
    agent = AgentProcess(folder, proxy.url, environ={"PLAY_API": api.url})
    with agent:
        run = agent.new_run(api, f"report Running\ntouch {folder}/pid\nawait {folder}/go\nreport Success")
        pid = pid_in(folder / "pid")
        held, _ = proxy.hold(times=None)
        held.wait_for_hits()
        code, seconds = agent.stop()
        assert code == 0
        assert seconds < _STOP_SECONDS
        assert is_alive(pid)
        (folder / "go").touch()
        api.wait_for_state(run, "Success")


def test_a_stop_before_the_api_has_ever_answered_is_quick(folder: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        AgentProcess(folder, f"http://127.0.0.1:{silent.getsockname()[1]}") as agent,
    ):
        agent.wait_until_up()
        with silent.accept()[0]:
            code, seconds = agent.stop()
        assert code == 0
        assert seconds < _STOP_SECONDS


def test_an_api_that_answers_with_a_web_page_is_asked_again(api: Api, proxy: FaultyProxy, folder: Path) -> None:
    pages = proxy.answer_html()
    with AgentProcess(folder, proxy.url) as agent:
        pages.wait_for_hits(3)
        assert agent.said.count("a web page, not GraphQL") == 1
        proxy.clear()
        agent.wait_for(_BACK)
        assert "Traceback" not in agent.said
