"""A user types `doctor`, for agents of that user's own: a scope is tried in that user's manager."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.machine import Machine

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_USER = "alice"


def _canary(machine: Machine) -> dict[str, Any]:
    printed = machine.run(["local-agent", "doctor", "--json"], user=_USER, check=False).stdout
    found: dict[str, dict[str, Any]] = {finding["check"]: finding for finding in json.loads(printed)["findings"]}
    return found["canary"]


def test_the_canary_sings_in_the_users_manager(machine: Machine) -> None:
    without = _canary(machine)
    assert (without["verdict"], without["fix"]) == ("warning", "run it as root: local-agent doctor")
    machine.linger(_USER)
    try:
        assert _canary(machine)["verdict"] == "ok"
        machine.run("systemctl --user stop flowruns.slice; systemctl --user mask flowruns.slice", user=_USER)
        masked = _canary(machine)
        assert masked["verdict"] == "failure"
        assert masked["fix"] == "systemctl --user unmask flowruns.slice"
        machine.run(masked["fix"], user=_USER)
        assert _canary(machine)["verdict"] == "ok"
        assert "canary" not in machine.run("systemctl --user list-units --all 'local-agent-canary*'", user=_USER).stdout
    finally:
        machine.run(f"loginctl disable-linger {_USER}; systemctl stop user@$(id -u {_USER}).service")
