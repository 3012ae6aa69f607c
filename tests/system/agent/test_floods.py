"""A flow run that prints more at once than journald takes of any other unit: every line of it is kept."""

from __future__ import annotations

import uuid

import pytest

from support.api import Api
from support.long_form import is_long_form
from support.machine import Machine
from system.agent.conftest import Instance

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

_FLOOD = """\
#!/bin/sh
if [ "$1" = -c ]; then echo 1.4.1; exit; fi
seq -f 'flood line %07.0f' "$FLOOD_LINES"
if [ -n "$FLOOD_CHILDREN" ]; then
    for child in $(seq "$FLOOD_CHILDREN"); do sh -c "echo child $child"; done
fi
echo Traceback: the last line
exit 3
"""


@pytest.fixture
def flooding(instance: Instance, machine: Machine) -> Instance:
    """An instance whose flow runs print as many lines as their env says."""
    machine.write("/srv/flood", _FLOOD, 0o755)
    instance.configure(python="/srv/flood")
    instance.start()
    return instance


def _run(api: Api, lines: int, children: int = 0) -> str:
    env = {"FLOOD_LINES": str(lines), "FLOOD_CHILDREN": str(children or "")}
    config = {"type": "LocalRun", "labels": ["prod1"], "env": env, "working_dir": None, "__version__": "1.4.1"}
    return api.create_flow_run(api.create_flow(f"flood-{uuid.uuid4().hex[:12]}", run_config=config))


def _kept(machine: Machine, run: str) -> list[str]:
    machine.run("journalctl --sync", timeout_seconds=300)
    return machine.run(
        ["journalctl", "-q", "-o", "cat", "-t", f"flow-run-{run}"], timeout_seconds=300
    ).stdout.splitlines()


def _check(machine: Machine, api: Api, run: str, lines: int) -> None:
    api.wait_for_state(run, "Failed", seconds=300)
    kept = _kept(machine, run)
    # each is there; where journald begins a new file in between, it may write one twice (257)
    assert {line for line in kept if line.startswith("flood")} == {f"flood line {n:07d}" for n in range(1, lines + 1)}
    assert kept[-1] == "Traceback: the last line"


def test_no_line_of_a_flood_is_lost(flooding: Instance, api: Api, machine: Machine) -> None:
    lines = 1_000_000 if is_long_form() else 45_000
    run = _run(api, lines, children=200)
    _check(machine, api, run, lines)
    assert len([line for line in _kept(machine, run) if line.startswith("child")]) == 200
    assert "Traceback" in str(api.states(run)[-1]["message"])
    shown = machine.run(["local-agent", "logs", run], timeout_seconds=300).stdout
    assert shown.count("flood line") >= lines


def test_nor_of_many_at_once(flooding: Instance, api: Api, machine: Machine) -> None:
    count, lines = (50, 40_000) if is_long_form() else (5, 12_000)
    runs = [_run(api, lines) for _ in range(count)]
    for run in runs:
        _check(machine, api, run, lines)


def test_the_agents_own_messages_have_no_limit_either(instance: Instance, machine: Machine) -> None:
    instance.start()
    found = machine.run(["systemctl", "show", instance.unit, "-p", "LogRateLimitIntervalUSec"]).stdout
    assert found.strip() == "LogRateLimitIntervalUSec=0"
