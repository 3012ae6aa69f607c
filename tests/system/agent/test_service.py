"""The agent as a service of a real systemd: ready, watched, stopped."""

from __future__ import annotations

import json
import time

import pytest

from support.api import Api, wait_until
from support.long_form import is_long_form
from support.machine import Machine
from system.agent.conftest import Instance

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

_SHORT_WATCHDOG = "[Service]\nWatchdogSec=3\nRestartSec=100ms\n"
_PERIOD_USEC = 3_000_000
# 0.1 took an agent for stuck once it had slept for 150 s; its first pauses are shorter
_PERIODS = 120 if is_long_form() else 4
# the READY entry of the agent and PID 1's own, in the order in which they were written
_STARTED_ID = "39f53479d3a045ac8e11786248231fbf"


def test_it_is_active_and_says_so(instance: Instance) -> None:
    instance.start()
    # in any order: what goes to systemd and what goes to journald is written by a thread each
    wait_until(lambda: _was_said(instance, "local-agent 0") and _was_said(instance, "Started "), instance.journal)
    wait_until(lambda: "API answered" in instance.show("StatusText")["StatusText"], lambda: str(instance.show()))
    assert instance.show("Type", "NotifyAccess", "ActiveState") == {
        "Type": "notify",
        "NotifyAccess": "main",
        "ActiveState": "active",
    }


def _was_said(instance: Instance, beginning: str) -> bool:
    entries = map(json.loads, instance.journal("-o", "json").splitlines())
    return any(entry["MESSAGE"].startswith(beginning) for entry in entries)


def test_a_hung_loop_is_restarted_by_the_watchdog(instance: Instance, machine: Machine) -> None:
    instance.drop_in(_SHORT_WATCHDOG)
    instance.start()
    # reading settings from a pipe that nobody writes to blocks the loop for ever
    pipe = "/etc/local-agent/prod1.toml"
    machine.run(["mkfifo", "-m", "644", pipe])
    machine.run(["systemctl", "kill", "--signal=HUP", instance.unit])
    wait_until(lambda: instance.show("NRestarts")["NRestarts"] != "0" or _is_reading(machine, pipe), instance.journal)
    machine.run(["rm", pipe])
    wait_until(lambda: instance.show("NRestarts")["NRestarts"] == "1", instance.journal)
    wait_until(lambda: instance.show("ActiveState")["ActiveState"] == "active", instance.journal)
    assert "Watchdog timeout" in instance.journal()


def _is_reading(machine: Machine, pipe: str) -> bool:
    return machine.run(["fuser", pipe], check=False).returncode == 0


def test_an_api_that_is_down_is_no_reason_to_restart(instance: Instance, machine: Machine) -> None:
    instance.configure(api_url="http://127.0.0.1:9")
    instance.drop_in(_SHORT_WATCHDOG)
    instance.start()
    pid = instance.show("MainPID")["MainPID"]
    wait_until(lambda: "API unreachable" in instance.show("StatusText")["StatusText"], instance.journal)
    assert instance.show("StatusErrno") == {"StatusErrno": "107"}
    by_anybody = machine.run(["local-agent", "status"], user="alice", check=False)
    assert by_anybody.returncode == 1
    assert "its agent does not reach the API: 0 running" in by_anybody.stderr
    # three times as long as the watchdog waits for a sign of life
    until = time.monotonic() + 9
    wait_until(lambda: time.monotonic() > until, instance.journal)
    assert instance.show("NRestarts", "MainPID", "ActiveState") == {
        "NRestarts": "0",
        "MainPID": pid,
        "ActiveState": "active",
    }
    assert instance.journal("-o", "cat").count("does not answer") == 1, "an outage is said once"
    machine.run(["systemctl", "stop", instance.unit])
    assert instance.show("Result")["Result"] == "success"


@pytest.mark.timeout(900)
def test_an_agent_that_polls_once_an_hour_is_alive(instance: Instance, machine: Machine, api: Api) -> None:
    """It sleeps for hundreds of watchdog periods: systemd hears of it all the time, and a poke still wakes it."""
    instance.configure(more='poll_interval = "1h"')
    instance.drop_in(_SHORT_WATCHDOG)
    instance.start()
    pid = instance.show("MainPID")["MainPID"]
    wait_until(lambda: "API answered" in instance.show("StatusText")["StatusText"], instance.journal)
    heard = [_heard_usec(instance)]
    while len(heard) < _PERIODS:
        wait_until(lambda: _heard_usec(instance) > heard[-1] + _PERIOD_USEC, instance.journal)
        heard.append(_heard_usec(instance))
    assert instance.show("NRestarts", "MainPID", "ActiveState", "Result") == {
        "NRestarts": "0",
        "MainPID": pid,
        "ActiveState": "active",
        "Result": "success",
    }
    assert machine.run(["local-agent", "poke", "--instance", instance.name]).returncode == 0


def _heard_usec(instance: Instance) -> int:
    """When systemd last heard from the agent, by the machine's uptime."""
    return int(instance.show("WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"])


def test_wrong_settings_are_said_and_not_tried_again(instance: Instance, machine: Machine) -> None:
    machine.write("/etc/local-agent/prod1.toml", "limitt = 3\n")
    machine.run(["systemctl", "start", instance.unit], check=False)
    wait_until(lambda: instance.show("ActiveState")["ActiveState"] == "failed", instance.journal)
    assert instance.show("ExecMainStatus", "NRestarts") == {"ExecMainStatus": "78", "NRestarts": "0"}
    journal = instance.journal("-o", "cat")
    assert "prod1.toml" in journal
    assert "limitt" in journal
    assert "Traceback" not in journal


def test_reload_returns_the_verdict(instance: Instance, machine: Machine, api: Api) -> None:
    instance.start()
    machine.write("/etc/local-agent/prod1.toml", "limit = 3\n")
    machine.run(["systemctl", "reload", instance.unit])
    wait_until(lambda: "3 slots free" in instance.show("StatusText")["StatusText"], instance.journal)
    machine.write("/etc/local-agent/prod1.toml", 'limit = "many"\n')
    failed = machine.run(["systemctl", "reload", instance.unit], check=False)
    assert failed.returncode != 0
    assert "prod1.toml" in instance.journal("-o", "cat")
    assert instance.show("ActiveState")["ActiveState"] == "active"
    assert "3 slots free" in instance.show("StatusText")["StatusText"]


def test_a_second_agent_by_hand_is_refused(instance: Instance, machine: Machine) -> None:
    """It would take half of the service's flow runs, as root."""
    instance.start()
    by_hand = ["local-agent", "start", "--instance", instance.name, "--max-polls", "1"]
    refused = machine.run(by_hand, check=False)
    assert refused.returncode == 78, refused
    assert f"{instance.unit} is this agent already" in refused.stderr
    machine.run(["systemctl", "stop", instance.unit])
    assert machine.run(by_hand, check=False).returncode == 0
