"""A flow run that is killed, while the process lives that Prefect has for its heartbeats."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from support.api import Api, wait_until
from support.machine import Machine
from system.agent.conftest import Instance

pytestmark = [pytest.mark.system, pytest.mark.prefect, pytest.mark.timeout(300)]

_FLOW = "/opt/flows/venv/bin/python -m prefect execute flow-run"


def test_an_orphaned_heartbeat_hides_no_crash(
    instance: Instance, machine: Machine, api: Api, flows: Mapping[str, str]
) -> None:
    """With the original the run stays Running for ever: the orphan goes on telling the Server that it lives."""
    instance.configure(more='heartbeat_mode = "process"')
    instance.start()
    run = api.create_flow_run(flows["nap"], parameters={"seconds": 600})
    heartbeat = f"prefect heartbeat flow-run -i {run}"
    wait_until(lambda: _pids(machine, "-f", heartbeat), instance.journal)
    api.wait_for_state(run, "Running")
    machine.run(["kill", "-KILL", *_pids(machine, "-fx", _FLOW)])
    api.wait_for_state(run, "Failed")
    assert api.states(run)[-1]["message"] == "Ended by signal 9 (SIGKILL)"
    assert not _pids(machine, "-f", heartbeat)
    assert "Running" not in {task["state"] for task in api.task_runs(run)}


def test_what_is_left_of_a_frozen_flow_run_is_ended(
    instance: Instance, machine: Machine, api: Api, flows: Mapping[str, str]
) -> None:
    instance.start()
    run = api.create_flow_run(flows["nap"], parameters={"seconds": 600})
    api.wait_for_state(run, "Running")
    machine.run(["systemctl", "freeze", f"flow-run-{run}.scope"])
    machine.run(["kill", "-KILL", *_pids(machine, "-f", "/shim.sh .*/runs/")])
    api.wait_for_state(run, "Failed")
    assert not _pids(machine, "-fx", _FLOW)
    wait_until(lambda: instance.scope_is(run, "inactive"), instance.journal)


def _pids(machine: Machine, *options: str) -> list[str]:
    return machine.run(["pgrep", *options], check=False).stdout.split()
