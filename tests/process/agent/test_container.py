"""As process 1 of a container: it reaps what others leave, and ends when it is told to."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import AgentProcess, pid_in
from support.api import Api
from support.api_client import wait_until

_CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def agent(api: Api, folder: Path) -> Iterator[AgentProcess]:
    """An agent that is process 1."""
    if os.geteuid() != 0:
        pytest.skip("only root may make a PID namespace")
    with AgentProcess(folder, api.url, wrapper=_CONTAINER) as running:
        running.wait_until_up()
        yield running


def test_process_1_runs_flows_and_reaps_every_orphan(api: Api, folder: Path, agent: AgentProcess) -> None:
    run = agent.new_run(api, f"report Running\ndaemon {folder}/daemon\nawait {folder}/go\nexit 3")
    inside = pid_in(folder / "daemon")
    orphan = next(pid for pid in agent.processes() if _pid_inside(pid) == inside)
    assert _parent_of(orphan) == agent.pid
    os.kill(orphan, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{orphan}").exists(), lambda: "the orphan stays a zombie")

    (folder / "go").touch()
    api.wait_for_state(run, "Failed")
    assert api.states(run)[-1]["message"] == "Exited with code 3", "the agent had its own child's exit code"
    agent.wait_until_forgotten()
    assert agent.zombies() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_1_ends_cleanly(agent: AgentProcess, number: signal.Signals) -> None:
    agent.wait_for("Registered at")
    code, seconds = agent.stop(number)
    assert code == 0
    assert seconds < 5
    assert "Stopping because of" in agent.said


def test_the_end_of_process_1_ends_its_runs_and_says_so(api: Api, folder: Path, agent: AgentProcess) -> None:
    run = agent.new_run(api, f"report Running\ntouch {folder}/pid\nawait {folder}/never")
    pid_in(folder / "pid")
    code, _ = agent.stop()
    assert code == 0
    assert api.state_types(run) == ["Scheduled", "Submitted", "Running", "Failed"]
    assert api.states(run)[-1]["message"] == "The machine was shut down"
    assert agent.processes() == []


def _pid_inside(pid: int) -> int:
    return int(_status(pid)["NSpid"].split()[-1])


def _parent_of(pid: int) -> int:
    return int(_status(pid)["PPid"])


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
