"""PID 1 executes itself anew while an agent without privileges launches flow runs by way of the broker."""

from __future__ import annotations

from support.api_client import wait_until
from system.ends.conftest import PlayedInstance

_RUNS = 40


def test_no_run_waits_for_a_pid_1_that_was_away_for_a_moment(played: PlayedInstance) -> None:
    played.start()
    runs = []
    for number in range(_RUNS):
        runs.append(played.new_run("report Running\nreport Success"))
        if number % 10 == 5:
            played.machine.run("systemctl daemon-reexec", check=False)
    for run in runs:
        played.api.wait_for_state(run, "Success")
    wait_until(lambda: len(played.starts()) == _RUNS, lambda: str(played.starts()))
    assert "given back" not in played.journal()
