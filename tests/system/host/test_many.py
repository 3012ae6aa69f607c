"""500 flow runs at once: what the commands cost until their first output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.machine import Machine
from system.host import many

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_MANY = 500
_SCRIPT = "/srv/many.py"
# 4 to 5 bare interpreters were measured; a file or a question more for each flow run adds one
_MAX_INTERPRETERS = 12


@pytest.fixture
def crowded(machine: Machine) -> Iterator[Machine]:
    """A machine with 500 flow runs in scopes of their own."""
    machine.write(_SCRIPT, Path(many.__file__).read_text())
    machine.run([machine.agent_python, _SCRIPT, "fill", str(_MANY)], timeout_seconds=120)
    try:
        yield machine
    finally:
        machine.run("systemctl stop flowruns.slice", timeout_seconds=120)


def test_the_first_output_costs_a_few_interpreters(crowded: Machine) -> None:
    assert len(json.loads(crowded.run("local-agent ps --json").stdout)["runs"]) == _MANY
    command = [crowded.agent_python, _SCRIPT, "cost", "3", "ps", "top", "logs"]
    cost = json.loads(crowded.run(command, timeout_seconds=200).stdout)
    bare = cost.pop("bare")
    interpreters = {name: round(seconds / bare, 1) for name, seconds in cost.items()}
    assert max(interpreters.values()) < _MAX_INTERPRETERS, interpreters
