"""A unit as people write it for an agent: a user's own name, Restart=always, no scopes to be had."""

from __future__ import annotations

import pytest

from support.api import Api, wait_until
from support.machine import Machine

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

_UNIT = "prefect-agent.service"
_NAPS = '#!/bin/sh\nif [ "$1" = -c ]; then echo 1.4.1; exit; fi\nsleep 600\n'


def _start(machine: Machine, api: Api, more: str = "") -> None:
    machine.write("/srv/naps", _NAPS, 0o755)
    machine.write(
        f"/etc/systemd/system/{_UNIT}",
        f"""\
[Unit]
Description=Prefect agent
[Service]
Type=simple
User=alice
WorkingDirectory=/home/alice
Environment=PREFECT__BACKEND=server PREFECT__SERVER__ENDPOINT={api.url}
ExecStart=/usr/bin/local-agent start --label hand --no-hostname-label --show-flow-logs --python /srv/naps
Restart=always
{more}
""",
    )
    machine.run(f"systemctl daemon-reload && systemctl start {_UNIT}")


def _run(api: Api, machine: Machine) -> str:
    config: dict[str, object] = {
        "type": "LocalRun",
        "labels": ["hand"],
        "env": {},
        "working_dir": None,
        "__version__": "1.4.1",
    }
    run = api.create_flow_run(api.create_flow("hand", run_config=config))
    wait_until(lambda: f"({run}) of hand started" in _said(machine), lambda: _said(machine))
    return run


def _said(machine: Machine) -> str:
    return machine.journal("-u", _UNIT, "-o", "cat")


def _clean(machine: Machine) -> None:
    machine.run(f"systemctl stop {_UNIT}; rm -f /etc/systemd/system/{_UNIT}; pkill -u alice", check=False)
    machine.run(
        "rm -rf /home/alice/.local; systemctl daemon-reload; journalctl --rotate --vacuum-time=1s -q", check=False
    )


@pytest.mark.parametrize("verb", ["restart", "stop"])
def test_runs_that_die_with_the_service_are_promised_nothing(machine: Machine, api: Api, verb: str) -> None:
    try:
        _start(machine, api)
        run = _run(api, machine)
        assert "Flow runs have no scopes of their own: /run/user/" in _said(machine)
        assert f"They end when {_UNIT} is stopped or restarted (KillMode=control-group)" in _said(machine)
        machine.run(["systemctl", verb, _UNIT])
        if verb == "stop":
            machine.run(["systemctl", "start", _UNIT])
        api.wait_for_state(run, "Failed")
        assert "Ended with the agent's service, which was stopped" in str(api.states(run)[-1]["message"])
        assert "go on running" not in _said(machine)
        # none, where it has ended and is reported before the agent hears of its own stop
        assert f" flow runs are ended with {_UNIT} by systemd" in _said(machine)
    finally:
        _clean(machine)


def test_runs_that_outlive_it_are_taken_up_again(machine: Machine, api: Api) -> None:
    try:
        _start(machine, api, "KillMode=process")
        run = _run(api, machine)
        assert "no scopes of their own" not in _said(machine)
        machine.run(["systemctl", "restart", _UNIT])
        wait_until(lambda: f"({run}) of hand is still running, adopted" in _said(machine), lambda: _said(machine))
        assert "1 flow runs go on running" in _said(machine)
    finally:
        _clean(machine)
