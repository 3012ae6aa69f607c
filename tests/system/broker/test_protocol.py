"""What the broker does for an agent, on a real systemd."""

from __future__ import annotations

import uuid

import pytest

from support.machine import Machine
from support.puppets import Line, Puppets, Remote
from system.broker.conftest import PROBE, show, start_message, started

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SERVICE = "local-agent-broker.service"
# what a process starts before it is moved stays where it is; a real flow run waits at a gate
_ENCLOSED = "until grep -q scope /proc/self/cgroup; do sleep 0.02; done; "


def _stubborn(machine: Machine, agent: Remote, broker: Line, stop_seconds: float) -> str:
    """Start a scope that does not end by SIGTERM, and return its flow run."""
    marker = f"/tmp/{uuid.uuid4()}"
    script = f"{_ENCLOSED} trap '' TERM; touch {marker}; while :; do sleep 0.1; done"
    flow_run = started(agent, broker, "sh", "-c", script, stop_seconds=stop_seconds)
    machine.wait_until(["test", "-e", marker])
    return flow_run


def test_a_process_is_enclosed(machine: Machine, agent: Remote, broker: Line) -> None:
    limits = {
        "memory_max_bytes": 512 << 20,
        "memory_high_bytes": 256 << 20,
        "cpu_quota_percent": 150,
        "cpu_weight": 50,
        "io_weight": 20,
        "tasks_max": 30,
        "runtime_max_seconds": 3600,
    }
    pid = agent.spawn("sleep", "600")
    flow_run = str(uuid.uuid4())
    answer = broker.ask(start_message(pid, flow_run, limits=limits, description="Flow run näme of a flow"))
    assert answer == {"id": 1, "ok": {}}
    unit = f"flow-run-{flow_run}.scope"
    assert machine.read(f"/proc/{pid}/cgroup").strip().endswith(f"/flowruns.slice/flowruns-prod1.slice/{unit}")
    wanted = {
        "Slice": "flowruns-prod1.slice",
        "Description": "Flow run näme of a flow",
        "MemoryMax": str(512 << 20),
        "MemorySwapMax": "0",
        "MemoryHigh": str(256 << 20),
        "CPUQuotaPerSecUSec": "1.500000s",
        "CPUWeight": "50",
        "IOWeight": "20",
        "TasksMax": "30",
        "RuntimeMaxUSec": "1h",
        "TimeoutStopUSec": "5s",
        "OOMPolicy": "stop",
        "MemoryAccounting": "yes",
    }
    assert show(machine, unit, *wanted) == wanted
    assert "local-agent@prod1.service" in show(machine, unit, "After")["After"].split()


def test_stop_and_what_is_gone(machine: Machine, agent: Remote, broker: Line) -> None:
    flow_run = started(agent, broker, "sh", "-c", f"{_ENCLOSED} sleep 601 & sleep 602")
    machine.wait_until("pgrep -f 'sleep 602'")
    assert broker.ask({"do": "stop", "flow_run": flow_run}) == {"id": 2, "ok": {}}
    assert machine.run("pgrep -f 'sleep 60[12]'", check=False).returncode == 1
    for verb, parts in (("stop", {}), ("kill", {"signal": 9}), ("reset-failed", {})):
        assert broker.asked({"do": verb, "flow_run": flow_run, **parts})["ok"] == {}


def test_kill_signals_all_of_it_and_a_failed_scope_is_reset(machine: Machine, agent: Remote, broker: Line) -> None:
    flow_run = started(agent, broker, "sh", "-c", f"{_ENCLOSED} sleep 603 & sleep 604", stop_seconds=0.2)
    # what does not end in time makes the scope fail, and then its name is taken
    stubborn = _stubborn(machine, agent, broker, 0.2)
    machine.wait_until("pgrep -f 'sleep 604'")
    assert "ok" in broker.asked({"do": "kill", "flow_run": flow_run, "signal": 9})
    machine.wait_until("! pgrep -f 'sleep 60[34]'")
    assert "ok" in broker.asked({"do": "stop", "flow_run": stubborn})
    failed = {"ActiveState": "failed", "Result": "timeout"}
    assert show(machine, f"flow-run-{stubborn}.scope", *failed) == failed
    pid = agent.spawn("sleep", "600")
    assert broker.asked(start_message(pid, stubborn))["error"] == "refused"
    assert "ok" in broker.asked({"do": "reset-failed", "flow_run": stubborn})
    assert "ok" in broker.asked(start_message(pid, stubborn))


def test_tail_returns_the_last_lines(machine: Machine, agent: Remote, broker: Line) -> None:
    flow_run = str(uuid.uuid4())
    for number in range(5):
        agent.spawn("sh", "-c", f"echo line {number} | systemd-cat -t flow-run-{flow_run}")
        machine.wait_until(f"journalctl -q -t flow-run-{flow_run} -o cat | grep -q 'line {number}'")
    machine.run(f"echo forged | systemd-cat -t flow-run-{flow_run}", user="alice")
    machine.wait_until(f"journalctl -q -t flow-run-{flow_run} -o cat | grep -q forged")
    answer = broker.asked({"do": "tail", "flow_run": flow_run, "lines": 3})
    assert answer["ok"] == {"lines": ["line 2", "line 3", "line 4"]}


def test_tail_returns_lines_of_its_user_whichever_instance_wrote_them(
    machine: Machine, puppets: Puppets, broker: Line
) -> None:
    """And no others': the broker asks for the caller's own user."""
    for instance, more, expected in (("same", "", ["line"]), ("alices", "User=alice", [])):
        flow_run = str(uuid.uuid4())
        puppets.agent(instance, more=more).spawn("sh", "-c", f"echo line | systemd-cat -t flow-run-{flow_run}")
        machine.wait_until(f"journalctl -q -t flow-run-{flow_run} -o cat | grep -q line")
        assert broker.asked({"do": "tail", "flow_run": flow_run, "lines": 3})["ok"] == {"lines": expected}, instance


def test_requests_are_answered_while_another_takes_its_time(machine: Machine, agent: Remote, broker: Line) -> None:
    slow = _stubborn(machine, agent, broker, 3)
    broker.send({"id": 70, "do": "stop", "flow_run": slow})
    broker.send({"id": 71, **PROBE})
    assert (broker.receive() or {})["id"] == 71
    assert (broker.receive() or {})["id"] == 70


def test_a_user_of_its_own_needs_nothing_else(machine: Machine, puppets: Puppets) -> None:
    agent = puppets.agent("alices", more="User=alice")
    flow_run = started(agent, agent.broker())
    shown = show(machine, f"flow-run-{flow_run}.scope", "Slice", "ActiveState")
    assert shown == {"Slice": "flowruns-alices.slice", "ActiveState": "active"}
    assert machine.run("stat -c %U:%a /var/lib/local-agent/alices").stdout == "alice:700\n"


def test_an_instance_with_dashes_has_a_slice_of_its_own(machine: Machine, puppets: Puppets) -> None:
    agent = puppets.agent("prod1-a.b:c_d")
    flow_run = started(agent, agent.broker())
    assert show(machine, f"flow-run-{flow_run}.scope", "Slice") == {"Slice": r"flowruns-prod1\x2da.b:c_d.slice"}


def test_a_broker_that_is_stopped_answers_what_it_took(machine: Machine, agent: Remote, broker: Line) -> None:
    slow = _stubborn(machine, agent, broker, 3)
    broker.send({"id": 70, "do": "stop", "flow_run": slow})
    machine.run(["systemctl", "stop", "--no-block", SERVICE])
    machine.wait_until(lambda: _takes_no_more(broker))
    assert broker.receive() == {"id": 70, "ok": {}}
    assert broker.receive() is None
    again = agent.broker()
    assert again.ask({"do": "stop", "flow_run": slow}) == {"id": 1, "ok": {}}
    assert show(machine, "local-agent-broker.socket", "ActiveState") == {"ActiveState": "active"}


def _takes_no_more(line: Line) -> bool:
    try:
        line.send({"id": 71, **PROBE})
    except OSError:
        return True
    assert (line.receive() or {})["id"] == 71
    return False


def test_it_can_be_started_as_often_as_needed(machine: Machine, agent: Remote) -> None:
    """By default systemd gives up on a socket at its sixth start within 10 s."""
    for _ in range(8):
        line = agent.broker()
        assert "ok" in line.asked(PROBE)
        machine.run(["systemctl", "stop", SERVICE])
    assert show(machine, "local-agent-broker.socket", "Result") == {"Result": "success"}
