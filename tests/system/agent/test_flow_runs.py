"""Real prefect 1.4.1 flow runs as scopes of a real systemd."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from support.api import Api, wait_until
from support.machine import Machine
from support.real_flows import CHECK_SECONDS
from system.agent.conftest import Instance

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

Flows = Mapping[str, str]
# the flow run's own process, and not the shim, whose command line goes on with this one
_FLOW = "/opt/flows/venv/bin/python -m prefect execute flow-run"


def _lives(machine: Machine, command_line: str) -> list[str]:
    """Return the pids of the processes with exactly this command line."""
    return machine.run(["pgrep", "-fx", command_line], check=False).stdout.split()


def test_a_flow_run_is_a_scope_of_its_instance(instance: Instance, machine: Machine, api: Api, flows: Flows) -> None:
    instance.start()
    run = api.create_flow_run(flows["nap"], parameters={"seconds": 5})
    api.wait_for_state(run, "Running")
    shown = machine.run(["systemctl", "status", "--no-pager", instance.slice], check=False).stdout
    assert f"flow-run-{run}.scope" in shown
    assert instance.slice in machine.run(["systemctl", "status", "--no-pager", "flowruns.slice"], check=False).stdout
    api.wait_for_state(run, "Success")
    wait_until(lambda: instance.scope_is(run, "inactive"), instance.journal)
    wait_until(lambda: any(f"flow-run-{run}.scope, PID " in line for line in api.messages(run)), instance.journal)


def test_its_output_is_in_the_journal(instance: Instance, machine: Machine, api: Api, flows: Flows) -> None:
    instance.start()
    run = api.create_flow_run(flows["hello"])
    api.wait_for_state(run, "Success")
    wait_until(lambda: instance.scope_is(run, "inactive"), instance.journal)
    shown = machine.journal("-t", f"flow-run-{run}", "-o", "cat")
    assert "written by the flow itself" in shown
    assert "hello from the flow" in shown
    assert run in machine.journal(f"FLOW_RUN_ID={run}", "-o", "verbose")


def test_stopping_the_scope_ends_everything_of_it(instance: Instance, machine: Machine, api: Api, flows: Flows) -> None:
    instance.start()
    run = api.create_flow_run(flows["daemon"], parameters={"seconds": 600})
    wait_until(lambda: _lives(machine, "sleep 7777"), instance.journal)
    machine.run(["systemctl", "stop", f"flow-run-{run}.scope"])
    assert not _lives(machine, "sleep 7777")
    assert not _lives(machine, _FLOW)
    api.wait_for_state(run, "Cancelled")
    assert api.states(run)[-1]["message"] == "Stopped on this host with systemctl"


def test_a_daemon_left_behind_is_swept(instance: Instance, machine: Machine, api: Api, flows: Flows) -> None:
    instance.start()
    run = api.create_flow_run(flows["daemon"], parameters={"seconds": 0})
    api.wait_for_state(run, "Success")
    wait_until(lambda: instance.scope_is(run, "inactive"), instance.journal)
    assert not _lives(machine, "sleep 7777")


def test_a_restart_of_the_agent_does_not_touch_a_flow_run(
    instance: Instance, machine: Machine, api: Api, flows: Flows
) -> None:
    instance.start()
    run = api.create_flow_run(flows["nap"], parameters={"seconds": 12})
    api.wait_for_state(run, "Running")
    pids = _lives(machine, _FLOW)
    machine.run(["systemctl", "restart", instance.unit], timeout_seconds=90)
    assert _lives(machine, _FLOW) == pids
    wait_until(lambda: "1 running" in instance.show("StatusText")["StatusText"], instance.journal)
    api.wait_for_state(run, "Success")
    ended = f"({run}) of nap ended: Exited with code 0"
    wait_until(lambda: ended in instance.journal("-o", "cat"), instance.journal)
    wait_until(lambda: "0 running" in instance.show("StatusText")["StatusText"], instance.journal)
    assert api.state_types(run) == ["Scheduled", "Submitted", "Running", "Success"]


def test_a_flow_run_that_ends_while_no_agent_runs(instance: Instance, machine: Machine, api: Api, flows: Flows) -> None:
    instance.start()
    run = api.create_flow_run(flows["nap"], parameters={"seconds": 600})
    api.wait_for_state(run, "Running")
    wait_until(lambda: _tasks(api, run).get("nap-1") == "Running", instance.journal)
    machine.run(["systemctl", "stop", instance.unit])
    machine.run(["kill", "-KILL", *_lives(machine, _FLOW)])
    wait_until(lambda: not instance.scope_is(run, "active"), instance.journal)
    assert api.state(run) == "Running"
    instance.start()
    api.wait_for_state(run, "Failed")
    assert "signal 9" in api.states(run)[-1]["message"]
    assert _tasks(api, run) == {"seconds": "Success", "nap-1": "Failed"}


def _tasks(api: Api, run: str) -> dict[str, str]:
    return {task["task"]["slug"]: task["state"] for task in api.task_runs(run)}


def test_cancelling_at_the_api_ends_it(instance: Instance, api: Api, flows: Flows) -> None:
    instance.start()
    run = api.create_flow_run(flows["nap"], parameters={"seconds": 600})
    api.wait_for_state(run, "Running")
    api.cancel(run)
    api.wait_for_state(run, "Cancelled", seconds=CHECK_SECONDS + 20)
    wait_until(lambda: instance.scope_is(run, "inactive"), instance.journal)
    assert "Flow run is cancelled" in api.states(run)[-1]["message"], "the flow's own process said so, not the agent"


def test_cancelling_is_enforced(instance: Instance, machine: Machine, api: Api, flows: Flows) -> None:
    """The flow ignores SIGINT and SIGTERM and has a child in a session of its own that does so too."""
    instance.configure(more="cancel_grace = 1")
    instance.start()
    run = api.create_flow_run(flows["stubborn"])
    wait_until(lambda: _lives(machine, "sleep 8888"), instance.journal)
    api.cancel(run)
    api.wait_for_state(run, "Cancelled", seconds=90)
    assert not _lives(machine, "sleep 8888")
    assert not _lives(machine, _FLOW)
