"""Values from the API that are made to break something: names, and what flows ask for in their run config."""

from __future__ import annotations

import json

import pytest

from support.api import Api, wait_until
from support.hostile import hostile_values
from support.machine import Machine
from system.agent.conftest import Instance

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_NAMES = (
    *hostile_values(24, seed=5),
    *("dbus.service", "flowruns.slice", "x\nPRIORITY=0\n_UID=0\nMESSAGE=forged", "a\u202eb", "long " * 600),
)
_ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {"LOCAL_AGENT_MEMORY_MAX": "1G\nDelegate=yes", "LOCAL_AGENT_TASKS_MAX": "%n"},
    {"LOCAL_AGENT_CPU_QUOTA": "-1%", "LOCAL_AGENT_RUNTIME_MAX": "1e999", "LOCAL_AGENT_NICE": "-20"},
    {"LOCAL_AGENT_IO_WEIGHT": "9" * 400, "LOCAL_AGENT_SLICE": "system.slice", "LOCAL_AGENT_USER": "root"},
    {"A=B": "x", "": "x"},
    {"NOTIFY_SOCKET": "/run/systemd/notify", "LISTEN_FDS": "9", "PATH": "/nowhere", "HOME": "/nowhere"},
)
_ENDS_AT_ONCE = '#!/bin/sh\n[ "$1" != -c ] || { echo 1.4.1; exit; }\nexit 3\n'


def test_whatever_the_api_says_each_run_ends_and_the_agent_goes_on(
    instance: Instance, machine: Machine, api: Api
) -> None:
    machine.write("/srv/ends", _ENDS_AT_ONCE, mode=0o755)
    instance.configure(python="/srv/ends")
    instance.start()
    units = _units(machine)
    runs = [_run(api, name, {}) for name in _NAMES] + [
        _run(api, f"env-{number}", env) for number, env in enumerate(_ENVIRONMENTS)
    ]
    wait_until(lambda: set(api.states_of(runs).values()) == {"Failed"}, lambda: str(api.states_of(runs)))
    wait_until(lambda: "flow-run-" not in str(_units(machine)), instance.journal)
    assert _units(machine) == {*units, "flowruns.slice", "flowruns-prod1.slice"}
    assert instance.show("NRestarts", "ActiveState") == {"NRestarts": "0", "ActiveState": "active"}
    said = [json.loads(line) for line in instance.journal("-o", "json").splitlines()]
    assert "Traceback" not in str(said)
    assert {entry.get("PRIORITY") for entry in said} <= {"3", "4", "5", "6", "7"}
    assert [entry["MESSAGE"] for entry in said if not str(entry["MESSAGE"]).isprintable()] == []
    for command in ("local-agent ps -a", "local-agent status", "systemctl list-units --all"):
        shown = machine.run(command, check=False)
        assert "Traceback" not in shown.stderr
        assert not set(shown.stdout) & {"\x1b", "\x07", "\u202e"}, command


def _run(api: Api, name: str, env: dict[str, str]) -> str:
    config = {"type": "LocalRun", "labels": ["prod1"], "env": env, "working_dir": None, "__version__": "1.4.1"}
    return api.create_flow_run(api.create_flow(name, run_config=config), name=name)


def _units(machine: Machine) -> set[str]:
    """Return the units that systemd knows, apart from those that come and go by themselves."""
    listed = machine.run("systemctl list-units --all --plain --no-legend --type=service,scope,slice").stdout
    names = {line.split()[0] for line in listed.splitlines()}
    return {name for name in names if name.startswith(("local-agent@", "flow"))}
