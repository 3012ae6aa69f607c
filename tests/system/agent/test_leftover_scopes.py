"""A scope of the own slice in which nobody but leftovers lives, and no record: ended at the next start, or kept."""

from __future__ import annotations

import uuid

import pytest

from support.api_client import wait_until
from support.machine import Machine
from system.agent.conftest import Instance

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_leftovers_without_a_record_are_ended_unless_they_may_stay(instance: Instance, machine: Machine) -> None:
    user = instance.show("User")["User"]
    mine, anothers = str(uuid.uuid4()), str(uuid.uuid4())
    _leave(machine, mine, instance.slice, user)
    _leave(machine, anothers, "flowruns-elsewhere.slice", user)
    wait_until(lambda: instance.scope_is(mine, "active") and instance.scope_is(anothers, "active"), instance.journal)
    instance.configure(more='leftovers = "keep"')
    instance.start()
    assert instance.scope_is(mine, "active")
    machine.run(["systemctl", "stop", instance.unit])
    instance.configure()
    instance.start()
    wait_until(lambda: instance.scope_is(mine, "inactive"), instance.journal)
    taken_up = f"Flow run  ({mine}) lives here and its record is gone"
    wait_until(lambda: instance.journal().count(taken_up) == 1, instance.journal)
    assert instance.scope_is(anothers, "active")
    machine.run(["systemctl", "stop", f"flow-run-{anothers}.scope"])


def _leave(machine: Machine, flow_run_id: str, slice_name: str, user: str) -> None:
    """Start what a flow run may leave in its scope: a process of the agent's user, and no shim."""
    scope = ["systemd-run", "--scope", f"--uid={user}", f"--slice={slice_name}", f"--unit=flow-run-{flow_run_id}.scope"]
    machine.run(["systemd-run", f"--unit=leaves-{flow_run_id}.service", *scope, "sleep", "3600"])
