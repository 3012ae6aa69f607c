"""An interpreter without prefect: said at once, and no flow run is claimed to die of it."""

from __future__ import annotations

from pathlib import Path

from support.agent import PLAYS, SAYS_VERSION, AgentProcess
from support.api import Api
from support.api_client import wait_until

_NO_PREFECT = 'if [ "$1" = -c ]; then echo "ModuleNotFoundError" >&2; exit 1; fi'


def test_no_prefect_is_said_before_anything_else_happens(folder: Path) -> None:
    with AgentProcess(folder, "http://127.0.0.1:9", python=_NO_PREFECT) as agent:
        agent.wait_for(
            f"No flow run is taken: {agent.python} has no prefect; set `python` to one that has prefect 1.4.1"
        )


def test_no_run_is_claimed_until_the_interpreter_is_fit(api: Api, folder: Path) -> None:
    agent = AgentProcess(folder, api.url, python=_NO_PREFECT)
    without, fit = agent.python, folder / "fit"
    fit.write_text(f"#!/bin/sh\n{SAYS_VERSION}\n{PLAYS}\n")
    fit.chmod(0o755)
    agent.write_config(f'python = "{without}"\n')
    agent.options.clear()  # the file says which
    with agent:
        run = agent.new_run(api, "report Running\nreport Success")
        agent.wait_for("No further flow run is taken")
        assert "has no prefect" in agent.ask("status")
        assert api.state_types(run) == ["Scheduled"]

        agent.write_config(f'python = "{fit}"\n')
        assert agent.ask("reload") == "python"
        api.wait_for_state(run, "Success")
        assert agent.said.count("No flow run is taken") == 1
        assert f"{fit} has prefect now; flow runs are taken" in agent.said


def test_runs_that_die_as_without_prefect_are_few(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url) as agent:
        agent.wait_for("Registered at")
        agent.write_python("echo No module named prefect >&2; exit 1")
        unfit = f"No flow run is taken: {agent.python} has no prefect"
        lost: list[str] = []
        while unfit not in agent.said:
            assert len(lost) < 20, "they go on dying"
            lost.append(agent.new_run(api, "never played"))
            wait_until(lambda: api.state(lost[-1]) == "Failed" or unfit in agent.said, lambda: agent.said)
        assert api.state_types(agent.new_run(api, "waits")) == ["Scheduled"]
        assert "Failed" in api.states_of(lost).values(), "one had to show it"
