"""What every scope needs is gone: no flow run is claimed meanwhile, and it needs nobody to come to life again."""

from __future__ import annotations

import pytest

from support.api import Api
from support.api_client import wait_until
from support.machine import Machine
from system.agent.conftest import Instance

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_PLAYER = '#!/bin/sh\n[ "$1" != -c ] || { echo 1.4.1; exit; }\nexit 3\n'
_JOURNALD = "systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket"


@pytest.fixture
def started(instance: Instance, machine: Machine) -> Instance:
    """An instance that runs, with something in place of prefect that ends at once."""
    machine.write("/srv/player", _PLAYER)
    machine.run(["chmod", "755", "/srv/player"])
    instance.configure(python="/srv/player")
    instance.start()
    return instance


def test_a_broker_that_was_restarted_again_and_again(started: Instance, machine: Machine, api: Api) -> None:
    """As by a configuration tool: with a limit of starts the socket is refused for good."""
    for unit in ("local-agent-broker.socket", "local-agent-broker.service"):
        for _ in range(12):
            machine.run(["systemctl", "restart", unit])
    run = _due(api)
    api.wait_for_state(run, "Failed")
    assert api.states(run)[-1]["message"].startswith("Exited with code 3")


def test_without_a_broker_nothing_is_claimed(started: Instance, machine: Machine, api: Api) -> None:
    machine.run("systemctl mask --runtime --now local-agent-broker.socket local-agent-broker.service")
    try:
        run = _waits(started, machine, api, "cannot reach the broker")
    finally:
        machine.run("systemctl unmask --runtime local-agent-broker.socket local-agent-broker.service")
    machine.run("systemctl start local-agent-broker.socket")
    api.wait_for_state(run, "Failed")
    assert api.state_types(run) == ["Scheduled", "Submitted", "Failed"]


def test_without_a_journal_nothing_is_claimed(started: Instance, machine: Machine, api: Api) -> None:
    machine.run(f"systemctl stop {_JOURNALD} systemd-journald.service")
    try:
        run = _waits(started, machine, api, "the journal takes no output")
    finally:
        machine.run(f"systemctl start {_JOURNALD} systemd-journald.service")
    api.wait_for_state(run, "Failed")
    assert api.state_types(run) == ["Scheduled", "Submitted", "Failed"]


def _waits(instance: Instance, machine: Machine, api: Api, reason: str) -> str:
    """Create a flow run and see that it is left in the queue, for other agents."""
    run = _due(api)
    status = f"local-agent status --instance {instance.name} 2>&1"
    wait_until(lambda: reason in machine.run(status, check=False).stdout, machine.run(status, check=False).stdout.strip)
    assert api.state_types(run) == ["Scheduled"]
    return run


def _due(api: Api) -> str:
    return api.create_flow_run(api.create_flow("noop", labels=["prod1"]))
