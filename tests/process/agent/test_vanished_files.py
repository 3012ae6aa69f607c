"""Files vanish from the state folder, or are forged there: no flow run that ran is started again, and none is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.agent import AgentProcess, pid_in
from support.api import Api
from support.api_client import wait_until

_FORGED = "never-started\nstopped no\n"


def _forge(path: Path) -> None:
    path.unlink()
    path.write_text(_FORGED)


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


# each is done to the exit record of a run
_HARMS: dict[str, Callable[[Path], None]] = {"gone": Path.unlink, "forged": _forge, "endless": _link}


def _start_each(api: Api, agent: AgentProcess, folder: Path) -> dict[str, str]:
    """Start a run for each harm, that has said nothing to the API yet, and return their ids."""
    runs = {name: agent.new_run(api, f"touch {folder}/{name}\nawait {folder}/go\nexit 3") for name in _HARMS}
    for name in _HARMS:
        pid_in(folder / name)
    return runs


def _harm_each(agent: AgentProcess, runs: dict[str, str]) -> None:
    for name, run in runs.items():
        _HARMS[name](agent.state_dir / "runs" / f"{run}.exit")


def _check_failed_once(api: Api, agent: AgentProcess, runs: dict[str, str]) -> None:
    agent.wait_until_forgotten()
    for name, run in runs.items():
        assert api.state_types(run) == ["Scheduled", "Submitted", "Failed"], name
    assert sorted(agent.starts()) == sorted(runs.values())
    assert "Traceback" not in agent.said


def test_exit_records_of_live_runs(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url) as agent:
        runs = _start_each(api, agent, folder)
        _harm_each(agent, runs)
        (folder / "go").touch()
        _check_failed_once(api, agent, runs)
        assert all(api.states(run)[-1]["message"].startswith("Exited with code 3") for run in runs.values())


@pytest.mark.parametrize("when", ["before their end", "after their end"])
def test_exit_records_of_runs_that_end_without_an_agent(api: Api, folder: Path, when: str) -> None:
    with AgentProcess(folder, api.url) as agent:
        runs = _start_each(api, agent, folder)
        agent.kill()
        if when == "before their end":
            _harm_each(agent, runs)
        (folder / "go").touch()
        wait_until(lambda: not agent.processes(), lambda: f"still there: {agent.processes()}")
        if when == "after their end":
            _harm_each(agent, runs)
        agent.start()
        _check_failed_once(api, agent, runs)


def test_the_whole_state_folder(api: Api, folder: Path) -> None:
    """It is said, nothing is claimed without a record, and the end of what lives is told all the same."""
    with AgentProcess(folder, api.url) as agent:
        live = agent.new_run(api, f"touch {folder}/up\nawait {folder}/go\nexit 3")
        pid_in(folder / "up")
        shutil.rmtree(agent.state_dir)
        later = agent.new_run(api, "report Running\nreport Success")
        agent.wait_for(f"No further flow run is taken: the state folder {agent.state_dir}/runs is gone")
        (folder / "go").touch()
        api.wait_for_state(live, "Failed")
        assert api.state_types(later) == ["Scheduled"]
        assert "Traceback" not in agent.said
        agent.kill()
        agent.start()
        api.wait_for_state(later, "Success")
        agent.wait_until_forgotten()
        assert agent.starts() == [live, later]
