"""What stands before an API: a proxy that takes only small requests, and one that asks for a password."""

from __future__ import annotations

from pathlib import Path

from support.agent import AgentProcess
from support.api import Api
from support.faults import FaultyProxy
from support.nginx import nginx_before, with_password

_RUNS = 40


def test_all_runs_start_behind_a_proxy_that_takes_only_small_requests(api: Api, folder: Path) -> None:
    with (
        nginx_before(folder.with_name("nginx"), api.url, "client_max_body_size 4k;") as url,
        AgentProcess(folder, url, environ={"PLAY_API": api.url}) as agent,
    ):
        agent.wait_for("Registered at")
        flow = agent.new_flow(api, "report Running\nsleep 1\nexit 3")
        runs = api.create_flow_runs(flow, _RUNS)
        for run in runs:
            api.wait_for_state(run, "Failed")
        assert sorted(agent.starts()) == sorted(runs), "each once"
        agent.wait_until_forgotten()


def test_user_and_password_stand_in_the_url_and_nowhere_else(api: Api, folder: Path) -> None:
    with with_password(folder.with_name("nginx"), api.url) as private:
        url = private.replace("flows:s3cret@", "")
        with AgentProcess(folder, private, environ={"PLAY_API": api.url}) as agent:
            agent.wait_for("Registered at")
            run = agent.new_run(api, "report Running\nreport Success")
            api.wait_for_state(run, "Success")
            said = agent.ask("status") + agent.ask("inspect")
            agent.wait_until_forgotten()
        assert "s3cret" not in agent.console + said
        assert "at http://***@127.0.0.1" in agent.console
        with AgentProcess(folder.with_name("stranger"), url) as agent:
            assert agent.wait() == 77
            assert "asks for a user and a password" in agent.console


def test_claims_that_do_not_get_through_are_said(api: Api, folder: Path) -> None:
    with FaultyProxy(api.url) as proxy, AgentProcess(folder, proxy.url, environ={"PLAY_API": api.url}) as agent:
        agent.wait_for("Registered at")
        proxy.answer(413, "set_flow_run_states", body="<html>", kind="text/html")
        run = agent.new_run(api, "report Running\nreport Success")
        agent.wait_for("The queue answers, but claims and ends do not get through: ")
        assert "takes no request as large as this (HTTP 413)" in agent.ask("status")
        assert api.state(run) == "Scheduled"
