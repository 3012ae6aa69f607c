"""What the units may do, as the kernel and systemd-analyze see it."""

from __future__ import annotations

import re

import pytest

from support.checkout import CHECKOUT
from support.machine import Machine
from support.puppets import Puppets
from system.broker.conftest import PROBE, show

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

BROKER = "local-agent-broker.service"
MOST = {"local-agent-broker.service": 0.9, "local-agent@prod1.service": 5.0, "local-agent-server.service": 1.5}
MAX_STRICT = 1.6


def _score(machine: Machine, unit: str) -> float:
    printed = machine.run(["systemd-analyze", "security", "--no-pager", unit]).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", printed)
    assert found is not None, printed
    return float(found[1])


def test_security_scores(machine: Machine) -> None:
    scores = {unit: _score(machine, unit) for unit in MOST}
    assert {unit: score for unit, score in scores.items() if score > MOST[unit]} == {}


def test_strict_drop_in_scores(machine: Machine) -> None:
    strict = (CHECKOUT / "packaging/examples/strict.conf").read_text()
    machine.write("/etc/systemd/system/local-agent@prod1.service.d/strict.conf", strict)
    machine.run("systemctl daemon-reload")
    assert _score(machine, "local-agent@prod1.service") <= MAX_STRICT


def test_units_are_as_systemd_wants_them(machine: Machine) -> None:
    units = [
        *("local-agent@prod1.service", "local-agent.target", "flowruns.slice"),
        *("local-agent-broker.socket", BROKER, "local-agent-server.service", "local-agent-server.socket"),
    ]
    printed = machine.run(["systemd-analyze", "verify", "--man=no", *units])
    assert "local-agent" not in printed.stderr, printed.stderr


@pytest.mark.usefixtures("broker")
def test_the_broker_is_uid_0_and_nothing_more(machine: Machine) -> None:
    pid = show(machine, BROKER, "MainPID")["MainPID"]
    status = dict(line.split(":\t", 1) for line in machine.read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["0"] * 4
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_the_broker_ends_when_nobody_asks(machine: Machine, puppets: Puppets) -> None:
    """With the agent's connection open; the next request then starts it again."""
    quick = "[Service]\nExecStart=\nExecStart=/usr/bin/python3 -I -m local_agent.broker --idle-seconds 1\n"
    machine.write(f"/etc/systemd/system/{BROKER}.d/quick.conf", quick)
    agent = puppets.agent("prod1")
    broker = agent.broker()
    broker.asked(PROBE)
    assert broker.receive() is None
    machine.wait_until(f"test $(systemctl is-active {BROKER}) = inactive")
    assert show(machine, BROKER, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    assert show(machine, "local-agent-broker.socket", "ActiveState") == {"ActiveState": "active"}
    assert "ok" in agent.broker().asked(PROBE)
