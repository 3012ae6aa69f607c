"""The bus and the broker stop for a while, again and again: each flow run is started once and its end is told."""

from __future__ import annotations

import random
import time

import pytest

from support.api import Api
from support.api_client import wait_until
from support.long_form import is_long_form
from support.machine import Machine
from system.agent.conftest import Instance

pytestmark = [pytest.mark.system, pytest.mark.timeout(3000)]

_ROUNDS, _MAX_SECONDS = (12, 45.0) if is_long_form() else (1, 3.0)  # launches are given up after 30 s
_ENOUGH_SECONDS = 240.0
_STARTS = "/srv/starts"
_PLAYER = f"""#!/bin/sh
[ "$1" != -c ] || {{ echo 1.4.1; exit; }}
echo "$PREFECT__CONTEXT__FLOW_RUN_ID" >>{_STARTS}
sleep "0.$(($$ % 10))"
exit 3
"""


@pytest.mark.parametrize("service", ["dbus.service", "local-agent-broker.service"])
def test_a_service_that_stops_and_goes_on(instance: Instance, machine: Machine, api: Api, service: str) -> None:
    machine.write("/srv/player", _PLAYER)
    machine.run(f"chmod 755 /srv/player; rm -f {_STARTS}; touch {_STARTS}; chmod 666 {_STARTS}")
    instance.configure(python="/srv/player")
    instance.start()
    flow = api.create_flow("stopped", labels=["prod1"])
    runs = api.create_flow_runs(flow, 1)
    api.wait_for_state(runs[0], "Failed")
    chance = random.Random(service)
    pid = machine.run(f"systemctl show -P MainPID {service}").stdout.strip()
    for _ in range(_ROUNDS):
        runs += api.create_flow_runs(flow, chance.randint(1, 8))
        time.sleep(chance.uniform(0, 0.5))
        machine.run(["kill", "-STOP", pid], check=False)
        try:
            runs += api.create_flow_runs(flow, chance.randint(0, 8))
            time.sleep(chance.uniform(0.5, _MAX_SECONDS))
        finally:
            machine.run(["kill", "-CONT", pid], check=False)
        pid = _pid_of(machine, service) or pid
    wait_until(
        lambda: set(api.states_of(runs).values()) == {"Failed"},
        lambda: f"{api.states_of(runs)}\n{instance.journal('-o', 'cat')[-3000:]}",
        seconds=_ENOUGH_SECONDS,
    )
    assert sorted(machine.read(_STARTS).split()) == sorted(runs), "each exactly once"
    assert "Traceback" not in instance.journal("-o", "cat")


def _pid_of(machine: Machine, service: str) -> str:
    pid = machine.run(f"systemctl show -P MainPID {service}", check=False).stdout.strip()
    return "" if pid in ("", "0") else pid
