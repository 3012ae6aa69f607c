"""Limits and ends that only systemd brings about."""

from __future__ import annotations

import pytest

from support.api_client import wait_until
from support.machine import Machine
from system.ends.conftest import PlayedInstance

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_CEILINGS = """\
[ceilings]
memory_max = "1G"
cpu_quota = "50%"
"""


def test_limits_asked_for_and_their_ceilings(played: PlayedInstance) -> None:
    played.prepare(_CEILINGS)
    played.start()
    hints = {"MEMORY_MAX": "3G", "MEMORY_HIGH": "600M", "CPU_QUOTA": "25%", "CPU_WEIGHT": "50", "IO_WEIGHT": "70"}
    more = {"TASKS_MAX": "200", "RUNTIME_MAX": "1h", "NICE": "5"}
    run = played.new_run(
        "report Running\nnap 600", **{f"LOCAL_AGENT_{name}": text for name, text in (hints | more).items()}
    )
    played.api.wait_for_state(run, "Running")
    shown = ["MemoryMax", "MemoryHigh", "CPUQuotaPerSecUSec", "CPUWeight", "IOWeight", "TasksMax", "RuntimeMaxUSec"]
    assert played.scope(run, *shown) == {
        "MemoryMax": str(1 << 30),
        "MemoryHigh": str(600 << 20),
        "CPUQuotaPerSecUSec": "250ms",
        "CPUWeight": "50",
        "IOWeight": "70",
        "TasksMax": "200",
        "RuntimeMaxUSec": "1h",
    }
    pids = played.machine.run(["pgrep", "-f", "played/player.py"]).stdout.split()
    assert played.machine.run(["ps", "-o", "ni=", "-p", pids[-1]]).stdout.strip() == "5"
    wait_until(lambda: "above this agent's ceiling" in _log(played, run), lambda: _log(played, run))
    assert "LOCAL_AGENT_MEMORY_MAX: 3G is above this agent's ceiling; 1G is used" in _log(played, run)


def test_hints_that_cannot_be_read_are_said_in_the_runs_log(played: PlayedInstance) -> None:
    played.prepare("[limits]\ntasks_max = 300\n")
    played.start()
    run = played.new_run("report Running\nnap 600", LOCAL_AGENT_TASKS_MAX="many", LOCAL_AGENT_MEMORY_MAXX="1G")
    played.api.wait_for_state(run, "Running")
    assert played.scope(run, "TasksMax", "MemoryMax") == {"TasksMax": "300", "MemoryMax": "infinity"}
    wait_until(lambda: "did you mean LOCAL_AGENT_MEMORY_MAX?" in _log(played, run), lambda: _log(played, run))
    assert "LOCAL_AGENT_TASKS_MAX: " in _log(played, run)
    assert "the default is used: 300" in _log(played, run)


def test_a_deadline_holds_while_no_agent_runs(played: PlayedInstance, machine: Machine) -> None:
    played.start()
    run = played.new_run("report Running\nnap 600", LOCAL_AGENT_RUNTIME_MAX="6s")
    played.api.wait_for_state(run, "Running")
    machine.run(["systemctl", "stop", played.unit], timeout_seconds=90)
    wait_until(lambda: not played.scope_is(run, "active"), machine.journal)
    assert played.api.state(run) == "Running"
    played.start()
    played.api.wait_for_state(run, "TimedOut")
    assert played.api.states(run)[-1]["message"] == "Ran longer than 6s"
    wait_until(lambda: played.scope(run, "LoadState") == {"LoadState": "not-found"}, played.journal)


def _log(played: PlayedInstance, run: str) -> str:
    return "\n".join(played.api.messages(run))
