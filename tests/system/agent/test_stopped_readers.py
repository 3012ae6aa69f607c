"""journald does not read for a while: the agent works on, is not killed by its watchdog, and says what was lost."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator

import pytest

from support.api import Api, wait_until
from support.long_form import is_long_form
from support.machine import Machine
from system.agent.conftest import Instance

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

# a flow run that says nothing: one that prints would wait for journald, as a service does
_QUIET = '#!/bin/sh\nif [ "$1" = -c ]; then echo 1.4.1; exit; fi\nexit 3\n'
_SIGNALS = "systemctl kill --kill-whom=main --signal={} systemd-journald.service"


@pytest.fixture
def quiet(instance: Instance, machine: Machine) -> Iterator[Instance]:
    """An instance with a short watchdog, whose flow runs end at once; journald reads again at the end of the test."""
    machine.write("/srv/quiet", _QUIET, 0o755)
    instance.configure(python="/srv/quiet", more='log_level = "DEBUG"\n')
    instance.drop_in("[Service]\nWatchdogSec=4\nRestartSec=100ms\n")
    instance.start()
    wait_until(lambda: "API answered" in instance.show("StatusText")["StatusText"], instance.journal)
    yield instance
    machine.run(_SIGNALS.format("CONT"))


def _run(api: Api, name: str) -> str:
    config: dict[str, object] = {
        "type": "LocalRun",
        "labels": ["prod1"],
        "env": {},
        "working_dir": None,
        "__version__": "1.4.1",
    }
    return api.create_flow_run(api.create_flow(name, run_config=config))


def test_runs_start_and_end_while_journald_is_stopped(quiet: Instance, api: Api, machine: Machine) -> None:
    pid = quiet.show("MainPID")["MainPID"]
    machine.run(_SIGNALS.format("STOP"))
    runs = [_run(api, f"quiet-{number}") for number in range(20)]  # three messages each: journald's queue takes ten
    for run in runs:
        api.wait_for_state(run, "Failed")
    wait_until(lambda: quiet.show("StatusText")["StatusText"].startswith("0 running"), lambda: str(quiet.show()))
    assert quiet.show("NRestarts", "MainPID", "ActiveState") == {
        "NRestarts": "0",
        "MainPID": pid,
        "ActiveState": "active",
    }
    machine.run(_SIGNALS.format("CONT"))
    for run in runs:
        wait_until(lambda run=run: f"({run}) of" in quiet.journal("-o", "cat"), quiet.journal)  # type: ignore[misc]
    assert "were lost" not in quiet.journal("-o", "cat"), "so many find a place"


@pytest.mark.timeout(3600)
def test_journald_stops_and_goes_on_again_and_again(quiet: Instance, api: Api, machine: Machine) -> None:
    """Long form: as often as it takes to meet each moment of a run."""
    chance = random.Random(7)
    pid = quiet.show("MainPID")["MainPID"]
    runs: list[str] = []
    for _ in range(30 if is_long_form() else 2):
        machine.run(_SIGNALS.format("STOP"))
        runs += [_run(api, f"quiet-{number}") for number in range(chance.randint(5, 25))]
        _wait(chance.uniform(0, 20 if is_long_form() else 2))
        machine.run(_SIGNALS.format("CONT"))
        _wait(chance.uniform(0, 3))
    for run in runs:
        api.wait_for_state(run, "Failed")
    assert quiet.show("NRestarts", "MainPID") == {"NRestarts": "0", "MainPID": pid}
    wait_until(lambda: not set(runs) - set(_ended(quiet)), lambda: str(set(runs) - set(_ended(quiet))))


def _ended(instance: Instance) -> list[str]:
    return re.findall(r"\((.{36})\) of \S+ ended: ", instance.journal("-o", "cat"))


def _wait(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, lambda: "", seconds=seconds + 60)


def test_it_ends_when_told_to_while_journald_is_stopped(quiet: Instance, api: Api, machine: Machine) -> None:
    machine.run(_SIGNALS.format("STOP"))
    run = _run(api, "quiet")
    api.wait_for_state(run, "Failed")
    machine.run(["systemctl", "stop", "--no-block", quiet.unit])
    wait_until(lambda: quiet.show("ActiveState")["ActiveState"] == "inactive", lambda: str(quiet.show()))
    assert quiet.show("Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
