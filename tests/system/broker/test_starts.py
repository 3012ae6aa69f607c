"""What a start takes in: the process that was looked at and nobody else, whoever keeps systemd or us waiting."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from support.long_form import is_long_form
from support.machine import Machine
from support.puppets import BROKER, Line, Puppets, Remote
from system.broker.conftest import PROBE, scope_of, show, start_message, started

pytestmark = [pytest.mark.system, pytest.mark.timeout(5400 if is_long_form() else 300)]

# so that a scope of instance `late` waits, though its service is up and has no job
_SLICE = "/etc/systemd/system/flowruns-late.slice.d/late.conf"
_NEVER = "/etc/systemd/system/never.service"
_MIN_PID = 1000 if is_long_form() else 1
_ROOTS_CHILD = """\
#!/bin/bash
mkdir -p /run/odd
name=$(printf '/run/odd/\\vUid: %s' "$(id -u local-agent)")
cp /bin/sleep "$name"
"$name" 558 &
echo $! >/run/roots-child
"""

# threads take their numbers from the pids, and need no privilege
_GO_ROUND = """\
import _thread, sys, time
target, last = int(sys.argv[1]), [0]
def note(done):
    last[0] = _thread.get_native_id()
    done.release()
while not target - 400 < last[0] < target - 100:
    done = _thread.allocate_lock()
    done.acquire()
    try:
        _thread.start_new_thread(note, (done,))
    except RuntimeError:  # the last ones have not ended yet
        time.sleep(0.01)
    else:
        done.acquire()
"""
_TAKE = """\
for _ in $(seq 2000); do
    sleep 559 >/dev/null 2>&1 &
    [ $! != $1 ] || exit 0
    kill $!
    wait
    [ $! -lt $1 ] || [ $! -gt $(($1 + 1000)) ] || exit 1
done
exit 1
"""


@pytest.fixture
def late(machine: Machine, puppets: Puppets) -> Iterator[Remote]:
    """An agent whose scopes wait for something that never comes."""
    machine.write(_NEVER, "[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/sleep infinity\n")
    machine.write(_SLICE, "[Unit]\nWants=never.service\nAfter=never.service\n")
    yield puppets.agent("late")
    machine.run("systemctl stop never.service; rm -f /etc/systemd/system/never.service", check=False)


def _pid_that_comes_again(agent: Remote) -> int:
    """Start a child: the kernel gives pids below 300 once and never again, and a round ends some hundred before it."""
    while (pid := agent.spawn("sleep", "600")) < _MIN_PID:
        agent.do("end", pid)
    return pid


def _jobs(machine: Machine) -> str:
    return machine.run(["systemctl", "list-jobs", "--no-legend", "flow-run-*"]).stdout


def _stranger_with_pid(machine: Machine, pid: int) -> None:
    """Have a process of root's get a pid: in the long form after all others have been given out, by anybody at all."""
    if is_long_form():
        _go_round(machine, pid)
    else:
        _set_back(machine, pid)


def _go_round(machine: Machine, pid: int) -> None:
    """Each round takes minutes, and at its end another process may come first."""
    for _ in range(3):
        machine.run(["python3", "-I", "-c", _GO_ROUND, str(pid)], user="alice", timeout_seconds=1500)
        if machine.run(["bash", "-c", _TAKE, "bash", str(pid)], check=False, timeout_seconds=120).returncode == 0:
            return
    raise AssertionError(f"pid {pid} was another's three times")


def _set_back(machine: Machine, pid: int) -> None:
    """Others may come first, so try again."""
    machine.run("mkdir -p /run/proc && mount -t proc proc /run/proc")
    script = f"echo {pid - 1} >/run/proc/sys/kernel/ns_last_pid; sleep 559 >/dev/null 2>&1 & echo $!"
    try:
        for _ in range(50):
            got = int(machine.run(script).stdout)
            if got == pid:
                return
            machine.run(["kill", str(got)])
    finally:
        machine.run("umount /run/proc")
    raise AssertionError(f"pid {pid} was not free again")


def test_a_service_that_is_not_up_gets_no_scope(machine: Machine, puppets: Puppets) -> None:
    """Its job would wait with a bare pid in it, until a stranger has that pid."""
    agent = puppets.agent("waiting", is_ready=False)
    line = agent.broker()
    pid = _pid_that_comes_again(agent)
    line.send({"id": 1, **start_message(pid)})
    time.sleep(1)  # what is refused may be refused by now; what waits has begun to wait
    agent.do("end", pid)
    _stranger_with_pid(machine, pid)
    agent.do("notify", "READY=1")
    machine.wait_until("systemctl is-active local-agent@waiting.service")
    answer = line.receive() or {}
    assert answer.get("error"), answer
    assert "flow-run" not in machine.read(f"/proc/{pid}/cgroup")
    assert _jobs(machine) == ""
    machine.run(["kill", str(pid)])
    # it is up now
    assert agent.broker().asked(start_message(agent.spawn("sleep", "600")))["ok"] == {}


def test_a_service_that_never_gets_up_is_told_so(machine: Machine, puppets: Puppets) -> None:
    agent = puppets.agent("waiting", is_ready=False)
    answer = agent.broker().asked(start_message(agent.spawn("sleep", "600")))
    assert answer["error"] == "not-now"
    assert "local-agent@waiting.service is not active" in answer["message"]
    assert _jobs(machine) == ""


def test_a_job_that_is_late_is_cancelled_and_keeps_nobody_waiting(
    machine: Machine, late: Remote, agent: Remote, broker: Line
) -> None:
    line = late.broker()
    most = 9
    for number in range(most):
        line.send({"id": number, **start_message(late.spawn("sleep", "600"))})
    machine.wait_until(lambda: _jobs(machine) != "")
    # another instance is served meanwhile
    started(agent, broker)
    assert _jobs(machine) != ""
    answers = [line.receive(45) or {} for _ in range(most)]
    assert {answer.get("error") for answer in answers} <= {"refused", "not-now"}, answers
    assert _jobs(machine) == "", "a start job outlives its answer"
    assert "flow-run" not in machine.run("systemctl list-units --all 'flow-run-*' | grep late", check=False).stdout


def test_a_stranger_in_a_scope_is_left_in_peace(machine: Machine, agent: Remote, broker: Line) -> None:
    """Below 257 a scope is started by a pid, and one may get in; whatever then comes hits all of a scope."""
    flow_run = started(agent, broker)
    machine.run("systemd-run --unit=roots.service sleep 560")
    stranger = show(machine, "roots.service", "MainPID")["MainPID"]
    cgroup = f"/sys/fs/cgroup/flowruns.slice/flowruns-prod1.slice/{scope_of(flow_run)}"
    machine.run(f"echo {stranger} >{cgroup}/cgroup.procs")
    parts: dict[str, dict[str, object]] = {"kill": {"signal": 9}}
    if machine.release == 12:
        for verb in ("kill", "stop"):
            answer = broker.asked({"do": verb, "flow_run": flow_run, **parts.get(verb, {})})
            assert answer["error"] == "not-yours", (verb, answer)
            assert f"process {stranger} of another user" in answer["message"]
        assert machine.run(["kill", "-0", stranger], check=False).returncode == 0
        machine.run(["kill", stranger])
        machine.wait_until(f"! grep -qx {stranger} {cgroup}/cgroup.procs")
    assert broker.asked({"do": "stop", "flow_run": flow_run})["ok"] == {}
    machine.run("systemctl stop roots.service", check=False)


def test_a_process_does_not_choose_whose_it_is_by_its_name(machine: Machine, puppets: Puppets) -> None:
    """Its name is in /proc/PID/status, and \\v ends a line for Python and not for the kernel."""
    machine.write("/srv/roots-child", _ROOTS_CHILD, mode=0o755)
    agent = puppets.agent("mixed", more="ExecStartPost=+/srv/roots-child")
    pid = int(machine.read("/run/roots-child"))
    machine.wait_until(f"grep -q Uid: /proc/{pid}/comm")
    answer = agent.broker().asked(start_message(pid))
    assert answer["error"] == "not-yours", answer
    assert "flow-run" not in machine.read(f"/proc/{pid}/cgroup")


def test_silent_connections_lock_nobody_out(machine: Machine, puppets: Puppets, agent: Remote) -> None:
    """Of a process of the agent's service, as a flow run is until it is enclosed; and of another instance."""
    child = puppets.child(agent)
    for _ in range(8):
        child.do("connect", BROKER)
    crowd = puppets.agent("crowd")
    for _ in range(20):
        crowd.do("connect", BROKER)
    assert "ok" in agent.broker().asked(PROBE)
    assert show(machine, "local-agent-broker.service", "NRestarts") == {"NRestarts": "0"}


def test_a_greeting_that_is_not_returned_ends_the_connection(agent: Remote) -> None:
    line = agent.broker(greet=False)
    assert "hello" in (line.receive() or {})
    assert line.receive(30) is None


def test_a_name_that_is_taken_is_said_with_whose_it_is(puppets: Puppets, agent: Remote, broker: Line) -> None:
    flow_run = str(uuid.uuid4())
    other = puppets.agent("other-1")
    assert other.broker().asked(start_message(other.spawn("sleep", "600"), flow_run))["ok"] == {}
    answer = broker.asked(start_message(agent.spawn("sleep", "600"), flow_run))
    assert answer["error"] == "not-yours"
    assert f"{scope_of(flow_run)} is of instance other-1" in answer["message"]
    # nor does the agent take the other's for its own, and wait for its end
    assert _status(agent.machine, flow_run, "flowruns-prod1.slice") == "None"
    assert "active" in _status(agent.machine, flow_run, r"flowruns-other\x2d1.slice")


def _status(machine: Machine, flow_run: str, own_slice: str) -> str:
    script = (
        "import asyncio, sys; from local_agent.systemd.manager import DBusScopeManager\n"
        "async def main():\n"
        "    manager = DBusScopeManager('unix:path=/run/dbus/system_bus_socket', sys.argv[1])\n"
        "    print(await manager.status(sys.argv[2]))\n"
        "    await manager.close()\n"
        "asyncio.run(main())\n"
    )
    words = [machine.agent_python, "-I", "-c", script, own_slice, scope_of(flow_run)]
    return machine.run(words).stdout.strip()
