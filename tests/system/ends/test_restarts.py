"""An agent with many live flow runs is upgraded, restarted and killed: none is lost. `make chaos` is the long form."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from support.api_client import wait_until
from support.long_form import is_long_form
from support.machine import Machine
from system.ends.conftest import PlayedInstance

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

_RUNS = 100 if is_long_form() else 30
_ROUNDS = 10 if is_long_form() else 4  # each restarts it twice
_ENOUGH_SECONDS = 240.0
_GO = "/opt/played/go"
_SOURCE = "/opt/local-agent/src/local_agent"
# as dpkg does: each file anew under another name, then moved into its place
_REPLACE = f'for old in $(find {_SOURCE} -type f); do cp -p "$old" "$old.new" && mv "$old.new" "$old"; done'


def test_no_run_is_lost_when_the_agent_is_upgraded_restarted_and_killed(
    played: PlayedInstance, machine: Machine
) -> None:
    played.drop_in("[Service]\nRestartSec=100ms\n")
    played.start()
    plays = _start_runs(played)
    for _ in range(_ROUNDS):
        machine.run(_REPLACE)
        machine.run(["systemctl", "restart", played.unit], timeout_seconds=90)
        machine.run(["systemctl", "kill", "--signal=KILL", played.unit])
        wait_until(lambda: _is_up_again(played), played.journal)
    _wait_for_status(played, f"{_RUNS} running")
    machine.write(_GO, "")
    _wait_for_status(played, "0 running")
    _check(played, plays)


def _start_runs(played: PlayedInstance) -> Mapping[str, str]:
    """Return how each of them ends, once the test lets them."""
    ends = ["report Success", "exit 7"] * (_RUNS // 2)
    plays = {played.new_run(f"report Running\nawait {_GO}\n{end}"): end for end in ends}
    wait_until(
        lambda: set(played.api.states_of(list(plays)).values()) == {"Running"}, played.journal, seconds=_ENOUGH_SECONDS
    )
    return plays


def _is_up_again(played: PlayedInstance) -> bool:
    """Tell whether systemd has started it again by itself, which it counts from a start by hand."""
    return played.show("NRestarts", "ActiveState") == {"NRestarts": "1", "ActiveState": "active"}


def _wait_for_status(played: PlayedInstance, text: str) -> None:
    wait_until(
        lambda: played.show("StatusText")["StatusText"].startswith(text), played.journal, seconds=_ENOUGH_SECONDS
    )


def _check(played: PlayedInstance, plays: Mapping[str, str]) -> None:
    assert sorted(played.starts()) == sorted(plays)
    for run, end in plays.items():
        last = played.api.wait_for_state(run, "Success", "Failed")
        assert last == ("Failed" if end == "exit 7" else "Success")
        assert played.api.state_types(run) == ["Scheduled", "Submitted", "Running", last]
        assert end == "report Success" or played.api.states(run)[-1]["message"] == "Exited with code 7"
    assert "Traceback" not in played.journal()
