"""Packets as no honest agent sends them. `make fuzz` sends 100,000 to each Debian; FUZZ_SEED repeats a run."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

import pytest

from support.machine import Machine
from support.puppets import Line, Puppets, Remote
from system.broker.conftest import PROBE, scope_of, show, started
from system.broker.fuzz import Fuzz

MESSAGES = int(os.environ.get("FUZZ_MESSAGES", "1000"))

pytestmark = [pytest.mark.system, pytest.mark.timeout(180 + MESSAGES // 10)]

SERVICE = "local-agent-broker.service"
_BATCH = 200
_MAX_GROWTH_KIB = 8 << 10
_PROCESSES = 6


@dataclass
class Attack:
    """A fuzzing puppet, its processes, and somebody else's that it knows of."""

    machine: Machine
    agent: Remote
    others: list[int]
    flow_runs: list[str]
    seed: int

    def send(self, count: int) -> None:
        """Send so many packets, in batches with new processes each."""
        for start in range(0, count, _BATCH):
            pids = [self.agent.spawn("sleep", "infinity") for _ in range(_PROCESSES)]
            fuzz = Fuzz(self.seed + start, [*pids, *self.others, self.agent.pid], self.flow_runs)
            self._send(fuzz.packets(min(_BATCH, count - start)))
            assert self.misplaced() == [], f"after packet {start + _BATCH} of seed {self.seed}"
            for pid in pids:
                self.agent.do("end", pid)

    def _send(self, packets: list[bytes]) -> None:
        """A packet that is no message ends the connection, so the rest goes over the next one."""
        while packets:
            line = self.agent.broker()
            taken = self.agent.do("converse", line.number, [packet.hex() for packet in packets])
            packets = packets[taken:]
            line.close()

    def broker_kib(self) -> int:
        """Return the broker's resident memory."""
        pid = show(self.machine, SERVICE, "MainPID")["MainPID"]
        status = self.machine.read(f"/proc/{pid}/status").splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))

    def misplaced(self) -> list[str]:
        """Return the scopes of flow runs that are not where this agent's belong."""
        listed = self.machine.run("systemctl list-units --all --plain --no-legend 'flow-run-*'").stdout
        scopes = {line.split()[0] for line in listed.splitlines()} - set(map(scope_of, self.flow_runs))
        shown = self.machine.run(["systemctl", "show", "-p", "Id,Slice", *sorted(scopes)]).stdout if scopes else ""
        places = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.split("\n\n")]
        return [place["Id"] for place in places if place.get("Slice", "") not in ("flowruns-fuzz.slice", "")]


@pytest.fixture
def attack(machine: Machine, puppets: Puppets, agent: Remote, broker: Line) -> Attack:
    """A fuzzing agent beside prod1, which has scopes and a process that the fuzzer tries to get at."""
    flow_runs = [started(agent, broker) for _ in range(3)]
    machine.run("systemd-run --unit=roots.service sleep infinity")
    roots = int(show(machine, "roots.service", "MainPID")["MainPID"])
    seed = int(os.environ.get("FUZZ_SEED", "0")) or random.randrange(1, 1 << 31)
    print(f"FUZZ_SEED={seed}")
    others = [1, roots, agent.pid, agent.spawn("sleep", "infinity")]
    return Attack(machine, puppets.agent("fuzz"), others, flow_runs, seed)


def test_fuzz(machine: Machine, attack: Attack, broker: Line) -> None:
    attack.send(MESSAGES // 2)
    broker.asked(PROBE)
    before, pid = attack.broker_kib(), show(machine, SERVICE, "MainPID", "NRestarts")
    attack.send(MESSAGES // 2)
    assert "ok" in broker.asked(PROBE)
    assert show(machine, SERVICE, "MainPID", "NRestarts") == pid
    assert attack.broker_kib() - before < _MAX_GROWTH_KIB
    assert attack.misplaced() == []
    for flow_run in attack.flow_runs:
        wanted = {"ActiveState": "active", "FreezerState": "running", "Slice": "flowruns-prod1.slice"}
        assert show(machine, scope_of(flow_run), *wanted) == wanted
    for other in attack.others:
        assert "flowruns-fuzz" not in machine.read(f"/proc/{other}/cgroup")
    started = machine.journal("-b", "_PID=1", "-o", "cat", "-g", "^Started flow-run-")
    assert started.count("- fuzz.") > 0, "no packet got as far as systemd"
    journal = machine.journal("-u", SERVICE, "-b", "-o", "cat")
    assert "Traceback" not in journal
    assert "fault of the broker" not in journal
    machine.run("systemctl stop roots.service")
