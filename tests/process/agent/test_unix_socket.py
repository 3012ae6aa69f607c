"""An agent that reaches its API by a unix socket: its flow runs get a key for TCP, which outlasts the server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import AgentProcess
from support.api import Api
from support.users import as_another_user

KEY = "the-administrators"


@pytest.fixture
def place() -> Iterator[Path]:
    """A path for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "api.sock"


def test_flow_runs_outlast_a_restart_of_their_server(tmp_path: Path, place: Path) -> None:
    options = ["--socket", str(place)]
    with (
        Api(tmp_path / "server.db", options=options, key=KEY) as api,
        AgentProcess(tmp_path / "agent", f"unix://{place}") as agent,
    ):
        agent.wait_for(f"Registered at unix://{place}")
        go = tmp_path / "go"
        run = agent.new_run(api, f"report Running\nawait {go}\nreport Success")
        api.wait_for_state(run, "Running")
        api.restart()
        go.touch()
        api.wait_for_state(run, "Success")
        api.wait_for_state(agent.new_run(api, "report Running\nreport Success"), "Success")
        agent.wait_until_forgotten()
        assert KEY not in agent.console
        assert "Traceback" not in agent.console + api.console


def test_an_agent_whose_user_may_not_use_the_socket_says_so(tmp_path: Path, place: Path) -> None:
    place.parent.chmod(0o755)
    with Api(tmp_path / "server.db", options=["--socket", str(place), "--allow-user", "54321"], key=KEY):
        agent = AgentProcess(place.parent / "agent", f"unix://{place}", wrapper=as_another_user())
        agent.start()
        assert agent.wait() == 77
    assert "may not use this socket" in agent.said
    assert "--allow-user" in agent.said
    assert "Traceback" not in agent.said
