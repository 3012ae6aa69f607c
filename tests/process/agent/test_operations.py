"""What a person asks of a running agent: how it stands, and to cancel a flow run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from local_agent.errors import LocalAgentError
from local_agent.net import control
from support.agent import AgentProcess
from support.api import Api, wait_until


def _inspect(agent: AgentProcess) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(agent.ask("inspect"))
    return answer


def test_how_it_stands(folder: Path, api: Api) -> None:
    with AgentProcess(folder, api.url, "--limit", "3") as agent:
        agent.wait_for("Registered at")
        run = agent.new_run(api, f"report Running\nawait {folder}/go\nreport Success")
        api.wait_for_state(run, "Running")
        wait_until(lambda: _inspect(agent)["runs"][0]["api_state"] == "running", lambda: str(_inspect(agent)))
        stands = _inspect(agent)
        assert stands["format"] == 1
        assert stands["labels"] == [agent.label]
        assert stands["slots"] == {"limit": 3, "taken": 1, "free": 2}
        assert stands["api"]["reachable"]
        assert stands["api"]["url"] == api.url
        assert stands["api"]["for_seconds"] >= stands["api"]["answered_seconds_ago"] >= 0
        assert stands["runs"][0]["id"] == run
        assert not stands["draining"]
        agent.ask("drain")
        wait_until(lambda: _inspect(agent)["takes_none_because"] == "draining", lambda: str(_inspect(agent)))


def test_an_api_out_of_reach_is_said(folder: Path) -> None:
    with AgentProcess(folder, "http://127.0.0.1:9") as agent:
        agent.wait_for("does not answer")
        stands = _inspect(agent)["api"]
        assert not stands["reachable"]
        assert "does not answer" in stands["reason"]
        assert stands["answered_seconds_ago"] is None


def test_cancelling_asks_the_api(folder: Path, api: Api) -> None:
    with AgentProcess(folder, api.url) as agent:
        agent.wait_for("Registered at")
        run = agent.new_run(api, f"report Running\nawait {folder}/never")
        api.wait_for_state(run, "Running")
        wait_until(lambda: [one["id"] for one in _inspect(agent)["runs"]] == [run], lambda: agent.said)
        assert control.ask(agent.state_dir, "cancel", run) == "Cancelling"
        assert api.state(run) == "Cancelling"
        assert _inspect(agent)["runs"], "the process has its chance to end by itself"


def test_cancelling_a_stranger_is_refused(folder: Path, api: Api) -> None:
    with AgentProcess(folder, api.url) as agent:
        agent.wait_for("Registered at")
        with pytest.raises(LocalAgentError, match="does not run under this agent"):
            control.ask(agent.state_dir, "cancel", "00000000-0000-4000-8000-000000000000")
        with pytest.raises(LocalAgentError, match="the agent knows"):
            agent.ask("cancel")
