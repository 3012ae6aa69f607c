"""`local-agent start` with a work pool of a real server: flow runs of real engines, from the queue to the end."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from prefect3.bed import Bed
from support.agent import AgentProcess
from support.prefect3_engine import deployed
from support.prefect3_server import wait_until
from support.prefect3_venv import prefect3_python

_END = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@pytest.fixture
def agent(bed: Bed, tmp_path: Path) -> Iterator[AgentProcess]:
    """An agent of the bed's pool, not started yet."""
    options = ("--protocol", "prefect3", "--pool", bed.name, "--poll-interval", "1")
    one = AgentProcess(tmp_path, bed.server.url, *options, python=f'exec {prefect3_python()} "$@"')
    try:
        yield one
    finally:
        one.kill()
        one.end_flow_runs()


def _notes(folder: Path, word: str) -> Sequence[str]:
    path = folder / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.split(" ")[0] == word]


def _wait_for_note(agent: AgentProcess, word: str) -> str:
    found = wait_until(lambda: _notes(agent.folder, word), lambda: f"no {word}; the agent said:\n{agent.console}")
    return str(found[0])


def _members(group: int) -> Sequence[int]:
    """Return the processes of a group. What leaves it for a session of its own, only a scope ends."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            _, _, fields = (folder / "stat").read_text().rpartition(")")
            if int(fields.split()[2]) == group:
                found.append(int(folder.name))
    return found


def _pid(note: str) -> int:
    return int(note.split("pid=")[1].split(" ")[0])


def _run(bed: Bed, agent: AgentProcess, flow: str, parameters: Mapping[str, object] | None = None) -> str:
    deployment = deployed(bed.server, flow, agent.folder / "notes", pool=bed.name)
    return bed.server.create_run(deployment, parameters=parameters or {})


def test_a_flow_run_is_taken_and_completes_in_a_folder_of_its_own(bed: Bed, agent: AgentProcess) -> None:
    agent.start()
    run = _run(bed, agent, "doubled", parameters={"numbers": [1, 2, 3]})
    assert bed.server.wait_for(run, *_END)["type"] == "COMPLETED", agent.console
    folder = Path(_wait_for_note(agent, "sum").rpartition("cwd=")[2])
    assert folder.name == f"{run}.scratch"
    wait_until(lambda: not folder.exists(), lambda: agent.console)
    assert "Crashed" not in bed.server.history(run)


def test_a_cancelled_flow_run_ends_cancelled_and_its_hook_runs_once(bed: Bed, agent: AgentProcess) -> None:
    agent.start()
    run = _run(bed, agent, "nap")
    napping = _wait_for_note(agent, "napping")
    bed.server.set_state(run, "CANCELLING", name="Cancelling")
    assert bed.server.wait_for(run, *_END)["type"] == "CANCELLED", agent.console
    [hook] = _notes(agent.folder, "cancellation-hook")
    assert _pid(hook) == _pid(napping)
    assert "Crashed" not in bed.server.history(run)


def test_cancelled_while_no_agent_lives_it_ends_cancelled_by_the_next(bed: Bed, agent: AgentProcess) -> None:
    agent.start()
    run = _run(bed, agent, "nap")
    _wait_for_note(agent, "napping")
    agent.kill()
    bed.server.set_state(run, "CANCELLING", name="Cancelling")
    agent.start()
    assert bed.server.wait_for(run, *_END)["type"] == "CANCELLED", agent.console
    assert len(_notes(agent.folder, "cancellation-hook")) == 1


def test_a_cancelled_flow_run_leaves_no_process_behind(bed: Bed, agent: AgentProcess) -> None:
    agent.start()
    run = _run(bed, agent, "family")
    group = int(_wait_for_note(agent, "family").split(" ")[1])
    assert len(_members(group)) > 3
    bed.server.set_state(run, "CANCELLING", name="Cancelling")
    assert bed.server.wait_for(run, *_END)["type"] == "CANCELLED", agent.console
    wait_until(lambda: not _members(group), lambda: f"{_members(group)} live; the agent said:\n{agent.console}")


def test_a_killed_flow_run_crashes_with_the_cause_and_its_hook_runs_once(bed: Bed, agent: AgentProcess) -> None:
    agent.start()
    run = _run(bed, agent, "nap")
    os.kill(_pid(_wait_for_note(agent, "napping")), signal.SIGKILL)
    state = bed.server.wait_for(run, *_END)
    assert (state["type"], state["name"]) == ("CRASHED", "Crashed"), agent.console
    assert "SIGKILL" in state["message"]
    hook = _wait_for_note(agent, "crashed-hook")
    assert f"cwd={agent.state_dir}" in hook, "where the flow run was"
    wait_until(lambda: agent.records() == [], lambda: agent.console)
    assert len(_notes(agent.folder, "crashed-hook")) == 1


def test_a_stopped_agent_leaves_its_flow_run_alone(bed: Bed, agent: AgentProcess) -> None:
    agent.start()
    run = _run(bed, agent, "nap", parameters={"seconds": 5})
    _wait_for_note(agent, "napping")
    assert agent.stop()[0] == 0, agent.console
    assert bed.server.wait_for(run, *_END)["type"] == "COMPLETED"


def test_what_a_flow_run_asks_for_wrongly_is_said_where_people_look(bed: Bed, agent: AgentProcess) -> None:
    agent.start()
    deployment = deployed(bed.server, "nap", agent.folder / "notes", pool=bed.name, job_variables={"memory": "lots"})
    run = bed.server.create_run(deployment)
    state = bed.server.wait_for(run, *_END)
    assert state["type"] == "CRASHED", agent.console
    assert "memory = 'lots'" in state["message"]
