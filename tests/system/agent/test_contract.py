"""What launchers promise, asked of `scope`: the suite of tests/contract, with systemd's own manager."""

from __future__ import annotations

import json
from pathlib import Path

from contract.launching import CHECKS
from support.machine import Machine

_TESTS = Path(__file__).parents[2]


def test_scopes_keep_what_launchers_promise(machine: Machine) -> None:
    for name in ("contract", "support"):
        machine.copy_in(_TESTS / name, f"/srv/tests/{name}")
    program = f"PYTHONPATH=/srv/tests {machine.agent_python} -m contract.scopes_in_debian /srv/tests"
    outcomes = json.loads(machine.run(program, timeout_seconds=280).stdout)
    assert outcomes == dict.fromkeys(CHECKS, "")
    assert machine.run("systemctl list-units --all --plain --no-legend 'flow-run-*.scope'").stdout == ""
