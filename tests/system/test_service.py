"""The agent as a service on a booted Debian, with real flow runs of prefect 1.4.1 in their scopes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_agent import events
from support.api import Api
from support.instance import Instance
from support.machine import Machine

pytestmark = [pytest.mark.system, pytest.mark.prefect, pytest.mark.timeout(300)]

_WATCHDOG = "[Service]\nWatchdogSec=3\nRestartSec=100ms\nTimeoutAbortSec=5\n"
_WATCHDOG_SECONDS = 3.0


@pytest.fixture
def prod1(machine: Machine, tmp_path: Path) -> Iterator[Instance]:
    """An instance with an API of its own; not started yet."""
    with Api(tmp_path / "server.db") as api:
        yield Instance(machine, api)
        machine.reset()  # while its API still answers


def test_flow_run_is_a_scope_and_its_output_is_in_the_journal(prod1: Instance) -> None:
    prod1.start()
    assert prod1.show("ActiveState") == "active"
    assert prod1.show("StatusText")
    run = prod1.create_run("wait")
    prod1.api.wait_for_state(run, "Running")
    tree = prod1.machine.run(["systemctl", "status", "--no-pager", prod1.slice]).stdout
    assert f"flow-run-{run}.scope" in tree
    prod1.let_flows_end()
    prod1.api.wait_for_state(run, "Success")
    prod1.wait_for_event(events.ENDED, run)
    output = prod1.output_of(run)
    assert "hello from the flow run" in output
    assert "goodbye from the flow run" in output
    assert prod1.show("ActiveState", f"flow-run-{run}.scope") == "inactive"
    assert any("Submitted for execution" in message for message in prod1.api.messages(run))


def test_flow_run_outlives_a_restart_of_the_agent(prod1: Instance) -> None:
    prod1.start()
    run = prod1.create_run("wait")
    prod1.api.wait_for_state(run, "Running")
    before = prod1.pids_of(run)
    prod1.machine.run(["systemctl", "restart", prod1.unit])
    prod1.wait_for_event(events.ADOPTED, run)
    assert set(before) <= set(prod1.pids_of(run))
    prod1.machine.wait_until(f"systemctl show -P StatusText {prod1.unit} | grep -q '^1 running'")
    prod1.let_flows_end()
    prod1.api.wait_for_state(run, "Success")
    prod1.wait_for_event(events.ENDED, run)
    prod1.machine.wait_until(f"systemctl show -P StatusText {prod1.unit} | grep -q '^0 running'")
    assert "goodbye from the flow run" in prod1.output_of(run)


def test_stopping_the_scope_leaves_nothing_of_a_flow_run(prod1: Instance) -> None:
    prod1.start()
    run = prod1.create_run("leave-daemon")
    prod1.machine.wait_until("pgrep -f '^sleep 86399'")
    prod1.machine.run(["systemctl", "stop", f"flow-run-{run}.scope"])
    prod1.machine.wait_until("! pgrep -f '^sleep 86399'")
    assert prod1.pids_of(run) == []
    prod1.api.wait_for_state(run, "Cancelled", "Failed")
    assert prod1.show("ActiveState") == "active"


def test_cancel_at_the_api_ends_a_real_flow_run(prod1: Instance) -> None:
    """Prefect in the flow run looks every 2 s (that is set) and then interrupts itself."""
    prod1.start()
    run = prod1.create_run("wait")
    prod1.api.wait_for_state(run, "Running")
    prod1.machine.wait_until(f"journalctl -o cat -t flow-run-{run} | grep -q 'hello from'")
    prod1.api.cancel(run)
    prod1.api.wait_for_state(run, "Cancelled")
    prod1.machine.wait_until(lambda: prod1.pids_of(run) == [])
    assert "goodbye" not in prod1.output_of(run)


def test_watchdog_restarts_an_agent_that_hangs(prod1: Instance) -> None:
    prod1.start(drop_in=_WATCHDOG)
    hung = prod1.show("MainPID")
    prod1.machine.run(["kill", "-STOP", hung])
    prod1.machine.wait_until(f"test $(systemctl show -P NRestarts {prod1.unit}) -ge 1")
    prod1.machine.wait_until(f"systemctl is-active {prod1.unit}")
    assert prod1.show("MainPID") != hung
    assert "Watchdog timeout" in prod1.machine.journal("-u", prod1.unit)


def test_watchdog_leaves_an_agent_without_api_alone(prod1: Instance) -> None:
    prod1.start(drop_in=_WATCHDOG)
    running = prod1.show("MainPID")
    prod1.api.kill()
    prod1.machine.wait_until(f"systemctl show -P StatusText {prod1.unit} | grep -q unreachable")
    until = time.monotonic() + 2.5 * _WATCHDOG_SECONDS
    prod1.machine.wait_until(lambda: time.monotonic() > until)
    assert prod1.show("NRestarts") == "0"
    assert prod1.show("MainPID") == running
    prod1.api.start()
    prod1.machine.wait_until(f"! systemctl show -P StatusText {prod1.unit} | grep -q unreachable")
