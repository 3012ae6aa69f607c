"""Scopes that end in the same moment: what systemd need not be asked it is not asked."""

from __future__ import annotations

import json
import os
from pathlib import Path

from support import many_scopes
from support.machine import Machine

_COUNT = 1000 if os.environ.get("LOCAL_AGENT_TESTS_CHAOS") == "long" else 60
_ASKED_FOR_THE_DAEMON = 12  # is it up, stop it, is it gone


def test_ordinary_ends_ask_systemd_nothing(machine: Machine) -> None:
    machine.write("/srv/many/many_scopes.py", Path(many_scopes.__file__).read_text())
    program = [machine.agent_python, "/srv/many/many_scopes.py", "/srv/many", str(_COUNT)]
    done = json.loads(machine.run(program, timeout_seconds=300).stdout)
    print(done)
    assert done["codes"] == sorted([number % 2 * 3 for number in range(_COUNT - 1)] + [0])
    assert done["asked"] <= _ASKED_FOR_THE_DAEMON
    assert done["last_seconds"] < 30
    loaded = machine.run("systemctl list-units --all --plain --no-legend 'flow-run-*.scope'").stdout
    assert loaded == ""
    assert machine.run("pgrep -x sleep", check=False).stdout == ""
