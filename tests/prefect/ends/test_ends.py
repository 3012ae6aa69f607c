"""How real prefect 1.4.1 flow runs end that do not end by themselves, and those that only seem to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping

import pytest

from prefect.ends.conftest import LABEL, StartAgent
from support.agent import AgentProcess, command_of
from support.api import Api, moment
from support.api_client import wait_until

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(300)]

# within one second on an idle machine
_REPORT_SECONDS = 15


def _pids(agent: AgentProcess, words: str) -> list[int]:
    """Return the processes of the agent's flow runs with these words in their command line."""
    return [pid for pid in agent.processes() if words in command_of(pid) and "shim.sh" not in command_of(pid)]


def _tasks(api: Api, run: str) -> dict[str, str]:
    return {task["task"]["slug"]: task["state"] for task in api.task_runs(run)}


def _new_nap(api: Api, flow: str, heartbeat: str, seconds: float) -> str:
    env = {"PREFECT__CLOUD__HEARTBEAT_MODE": heartbeat}
    config = {"type": "LocalRun", "labels": [LABEL], "env": env, "__version__": "1.4.1"}
    return api.create_flow_run(flow, parameters={"seconds": seconds}, run_config=config)


def _kill_all(api: Api, agent: AgentProcess, runs: list[str]) -> None:
    """End their processes with SIGKILL once all are in the middle of their tasks."""
    for run in runs:
        wait_until(lambda: _tasks(api, run).get("nap-1") == "Running", lambda: agent.console)  # noqa: B023 - asked before the loop goes on
    wait_until(lambda: _pids(agent, "heartbeat"), lambda: agent.console)
    for pid in _pids(agent, "prefect execute flow-run"):
        os.kill(pid, signal.SIGKILL)


def test_a_killed_flow_run_is_failed_with_its_tasks(
    start_agent: StartAgent, api: Api, flows: Mapping[str, str]
) -> None:
    agent = start_agent()
    runs = [_new_nap(api, flows["nap"], heartbeat, 600) for heartbeat in ("thread", "process")]
    _kill_all(api, agent, runs)
    began = time.monotonic()
    for run in runs:
        api.wait_for_state(run, "Failed")
    assert time.monotonic() - began < _REPORT_SECONDS
    assert agent.processes() == [], "its heartbeat process would go on for ever"
    for run in runs:
        assert api.states(run)[-1]["message"] == "Ended by signal 9 (SIGKILL)"
        assert _tasks(api, run) == {"seconds": "Success", "nap-1": "Failed"}
    agent.wait_until_forgotten()


def test_a_killed_flow_run_runs_again_and_succeeds(start_agent: StartAgent, api: Api, flows: Mapping[str, str]) -> None:
    agent = start_agent("--on-crash", "reschedule(1)")
    run = _new_nap(api, flows["nap"], "process", 4)
    _kill_all(api, agent, [run])
    api.wait_for_state(run, "Scheduled")
    assert agent.processes() == []
    assert _tasks(api, run) == {"seconds": "Success", "nap-1": "Pending"}
    api.wait_for_state(run, "Success", seconds=120)
    assert _tasks(api, run) == {"seconds": "Success", "nap-1": "Success"}
    agent.wait_until_forgotten()
    assert agent.processes() == []


def test_a_long_retry_and_a_manual_approval_are_no_crashes(
    start_agent: StartAgent, api: Api, flows: Mapping[str, str]
) -> None:
    agent = start_agent()
    retried, approved = (api.create_flow_run(flows[name]) for name in ("long-retry", "approval"))
    for run in (retried, approved):
        agent.wait_for(f"({run}) of")
    agent.wait_for("ended: Exited with code 0", 2)
    agent.wait_until_forgotten()
    assert [api.state(run) for run in (retried, approved)] == ["Running", "Running"]
    (retrying,) = api.task_runs(retried)
    assert retrying["state"] == "Retrying"
    waiting = next(task for task in api.task_runs(approved) if task["task"]["slug"] == "go_on-1")
    assert waiting["state"] == "Paused"

    api.set_task_state(retrying["id"], {**retrying["serialized_state"], "start_time": moment(-5)})
    api.set_task_state(waiting["id"], {"type": "Resume", "message": "approved", "start_time": moment(-5)})
    for run in (retried, approved):
        api.wait_for_state(run, "Success")
        assert api.state_types(run).count("Success") == 1
        assert "Failed" not in api.state_types(run)
    agent.wait_until_forgotten()
