"""What the broker must not do, whoever asks."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import pytest

from support.machine import Machine
from support.puppets import BROKER, Line, Puppets, Remote
from system.broker.conftest import PROBE, scope_of, show, start_message, started

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

Answer = dict[str, object]
_SYSTEMD = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
_RECYCLE = """\
mkdir -p /run/proc && mount -t proc proc /run/proc && echo {before} >/run/proc/sys/kernel/ns_last_pid
sleep 987 >/dev/null 2>&1 &
echo $!
umount /run/proc
"""

WRONG_PARTS: list[dict[str, object]] = [
    {"flow_run": "../../../etc/passwd"},
    {"flow_run": "ssh.service"},
    {"flow_run": "c0ffee00-0000-4000-8000-00000000000A"},
    {"flow_run": "c0ffee00-0000-4000-8000-000000000000\n"},
    {"flow_run": "c0ffee00-0000-4000-8000-000000000000.scope dbus.service"},
    {"flow_run": ["c0ffee00-0000-4000-8000-000000000000"]},
    {"unit": "dbus.service"},
    {"slice": "system.slice"},
    {"properties": [["User", "root"]]},
    {"limits": {"MemoryMax": 1 << 30}},
    {"limits": {"tasks_max": "infinity"}},
    {"limits": {"tasks_max": 10, "Delegate": True}},
    {"limits": {"memory_max_bytes": -1}},
    {"limits": {"memory_max_bytes": None}},
    {"limits": {"cpu_quota_percent": True}},
    {"limits": {"cpu_weight": 1e300}},
    {"limits": [["tasks_max", 3]]},
    {"description": "x" * 201},
    {"description": "two\nlines"},
    {"description": "bidi \u202e text"},
    {"description": "dbus.service"},
    {"description": "it ends in a backslash\\"},
    {"stop_seconds": 0},
    {"stop_seconds": 1e9},
    {"pid": 0},
    {"pid": -1},
    {"pid": 1},
    {"pid": "2"},
    {"pid": 2**31},
    {"do": "exec"},
    {"do": "StartTransientUnit"},
    {"do": "set", "limits": {"tasks_max": 5}},
    {"do": "freeze"},
    {"do": "status"},
    {"do": None},
    {"do": ["start"]},
]

NO_MESSAGES = [
    b"x",
    b"\0",
    b'{"id": 1, "do": "shut',
    b'{"id": 1, "do": "reset-failed", "flow_run": "00000000-0000-4000-8000-000000000000"}' + b" " * 4096,
    b"[" * 4096,
    b'{"id":' * 600,
    b'{"id": ' + b"9" * 4000 + b', "do": "reset-failed", "flow_run": "00000000-0000-4000-8000-000000000000"}',
    b'{"id": NaN, "do": "reset-failed", "flow_run": "00000000-0000-4000-8000-000000000000"}',
    b"PROBE",
    b'{"id": -1, "do": "reset-failed", "flow_run": "00000000-0000-4000-8000-000000000000"}',
    b'{"id": 1.0, "do": "reset-failed", "flow_run": "00000000-0000-4000-8000-000000000000"}',
    b'"\xff\xfe"',
    b"a" * 100_000,
]


@pytest.fixture(autouse=True)
def _stays_up(machine: Machine, broker: Line) -> Iterator[None]:
    """After each attack the broker is the same process, and answers the agent."""
    before = show(machine, "local-agent-broker.service", "MainPID")
    yield
    assert show(machine, "local-agent-broker.service", "MainPID") == before
    assert "ok" in broker.asked(PROBE)
    assert "Traceback" not in machine.journal("-u", "local-agent-broker.service", "-b")


def _flow_run_of(puppets: Puppets, agent: Remote, broker: Line, **parts: object) -> tuple[Remote, str]:
    """Return a puppet in the place of a flow run's process, and the flow run's id."""
    child = puppets.child(agent)
    flow_run = str(uuid.uuid4())
    assert broker.asked(start_message(child.pid, flow_run, **parts))["ok"] == {}
    assert child.do("cgroup").endswith(f"/{scope_of(flow_run)}")
    return child, flow_run


def _is_turned_away(puppet: Remote) -> bool:
    line = puppet.broker(greet=False)
    answer = line.receive() or {}
    assert line.receive() is None, "it does not hang up"
    line.close()
    return bool(answer["error"] == "not-allowed")


def test_a_flow_run_cannot_leave_its_limits(machine: Machine, puppets: Puppets, agent: Remote, broker: Line) -> None:
    flow_run, its_id = _flow_run_of(puppets, agent, broker, limits={"tasks_max": 20})
    assert _is_turned_away(flow_run)
    # not by its parent's connection either, were it ever handed one
    number = agent.broker().number
    descriptor = agent.do("fileno", number)
    heir = puppets.child(agent)
    assert broker.asked(start_message(heir.pid))["ok"] == {}
    line = Line(heir, heir.do("inherit", descriptor))
    line.send({"id": 1, "do": "stop", "flow_run": its_id})
    assert (line.receive() or {})["error"] == "not-allowed"
    assert line.receive() is None
    assert show(machine, scope_of(its_id), "TasksMax") == {"TasksMax": "20"}


def test_a_greeting_cannot_be_returned_by_another_process(puppets: Puppets, agent: Remote) -> None:
    line = agent.broker(greet=False)
    greeting = line.receive() or {}
    child = puppets.child(agent)  # in the agent's own cgroup still
    heir = Line(child, child.do("inherit", agent.do("fileno", line.number)))
    heir.send({"hello": greeting["hello"]})
    assert (heir.receive() or {})["error"] == "not-allowed"


def test_only_the_main_process_of_a_service_is_an_agent(puppets: Puppets, agent: Remote) -> None:
    """Flow runs before they are enclosed are in the agent's cgroup, too, and of a user who may trace them."""
    assert _is_turned_away(puppets.child(agent))


def test_nothing_comes_before_the_greeting(agent: Remote) -> None:
    wrong: list[object] = [{"hello": "0" * 32}, {"id": 1, **PROBE}, {"hello": None}, []]
    for first in wrong:
        line = agent.broker(greet=False)
        line.receive()
        line.send(first)
        assert (line.receive() or {})["error"] == "bad-message"
        assert line.receive() is None


def test_other_services_of_the_same_user_are_turned_away(machine: Machine, puppets: Puppets) -> None:
    """The user and the group are the agent's; only the cgroup is not."""
    options = ("--uid=local-agent", "--property=SupplementaryGroups=local-agent")
    assert _is_turned_away(puppets.service("other.service", *options))
    assert _is_turned_away(puppets.service("local-agent-broker-x.service", *options))
    assert _is_turned_away(puppets.service("root.service"))
    delegated = puppets.service("delegated.service", *options, "--property=Delegate=yes")
    inner = f"/sys/fs/cgroup{delegated.do('cgroup')}/local-agent@prod1.service"
    machine.run(f"mkdir {inner} && echo {delegated.pid} >{inner}/cgroup.procs")
    assert delegated.do("cgroup").endswith("/delegated.service/local-agent@prod1.service")
    assert _is_turned_away(delegated)


def test_a_unit_of_a_users_own_manager_is_turned_away(machine: Machine, puppets: Puppets) -> None:
    machine.run(["usermod", "-aG", "local-agent", "alice"])
    machine.linger("alice")
    evil = puppets.user_service("alice", "local-agent@prod1.service")
    assert evil.do("cgroup").endswith("/local-agent@prod1.service")
    try:
        assert _is_turned_away(evil)
    finally:
        machine.run(["gpasswd", "--delete", "alice", "local-agent"])
        machine.run("loginctl disable-linger alice; systemctl stop user@1000.service", check=False)


def test_who_is_not_of_the_group_does_not_reach_it(puppets: Puppets) -> None:
    with pytest.raises(OSError, match="PermissionError"):
        puppets.service("stranger.service", "--uid=alice").do("connect", BROKER)


def test_only_own_processes_are_enclosed(machine: Machine, puppets: Puppets, agent: Remote, broker: Line) -> None:
    machine.run("systemd-run --unit=roots.service sleep 555")
    roots = show(machine, "roots.service", "MainPID")["MainPID"]
    same_user = puppets.service("same.service", "--uid=local-agent")
    _, flow_run = _flow_run_of(puppets, agent, broker)
    enclosed = machine.run(f"cat /sys/fs/cgroup/flowruns.slice/flowruns-prod1.slice/{scope_of(flow_run)}/cgroup.procs")
    other = puppets.agent("prod2")
    gone = agent.spawn("true")
    agent.do("end", gone)
    for pid in (1, 2, int(roots), same_user.pid, int(enclosed.stdout), other.pid, agent.pid, gone, 4_000_000):
        answer = broker.asked(start_message(pid))
        assert answer["error"] in ("not-yours", "bad-request"), (pid, answer)
    assert _scopes(machine) == {scope_of(flow_run)}
    machine.run("systemctl stop roots.service same.service")


def test_a_process_of_another_user_in_the_same_service_is_not_enclosed(machine: Machine, puppets: Puppets) -> None:
    more = "ExecStartPost=+/bin/sh -c 'sleep 556 & echo $! >/run/roots-child'"
    agent = puppets.agent("mixed", more=more)
    pid = int(machine.read("/run/roots-child"))
    assert "local-agent@mixed.service" in machine.read(f"/proc/{pid}/cgroup")
    answer = agent.broker().asked(start_message(pid))
    assert answer["error"] == "not-yours"
    assert _scopes(machine) == set()


def test_a_recycled_pid_is_somebody_elses(machine: Machine, agent: Remote, broker: Line) -> None:
    pid = agent.spawn("sleep", "600")
    agent.do("end", pid)
    stranger = machine.run(_RECYCLE.format(before=pid - 1)).stdout.strip()
    assert stranger == str(pid), "the pid was not recycled"
    assert broker.asked(start_message(pid))["error"] == "not-yours"
    assert "flow-run" not in machine.read(f"/proc/{pid}/cgroup")
    machine.run(["kill", str(pid)])


def test_a_caller_whose_pid_is_recycled_in_the_same_service(machine: Machine, puppets: Puppets, agent: Remote) -> None:
    """It connects, says something and ends before the broker looks; then another process of the agent has its pid."""
    child = puppets.child(agent)
    machine.run(["systemctl", "kill", "--signal=STOP", "local-agent-broker.service"])
    silent, hasty = (Line(child, child.do("connect", BROKER)) for _ in range(2))
    hasty.send({"id": 1, **PROBE})
    heir = puppets.child(child)
    heirs = [Line(heir, heir.do("inherit", child.do("fileno", line.number))) for line in (silent, hasty)]
    agent.do("end", child.pid)
    _spawn_as(machine, agent, child.pid)
    machine.run(["systemctl", "kill", "--signal=CONT", "local-agent-broker.service"])
    for line, said in zip(heirs, (False, True), strict=True):
        answer = line.receive()  # the kernel drops it where what was said was never read
        assert (answer or {"error": "not-allowed" if said else ""})["error"] == "not-allowed"
        assert answer is None or line.receive() is None


def _spawn_as(machine: Machine, agent: Remote, pid: int) -> None:
    """Have the agent start a process that gets this pid. Others may come first, so try again."""
    machine.run("mkdir -p /run/proc && mount -t proc proc /run/proc")
    try:
        for _ in range(50):
            machine.run(f"echo {pid - 1} >/run/proc/sys/kernel/ns_last_pid")
            spawned = agent.spawn("sleep", "infinity")
            if spawned == pid:
                return
            agent.do("end", spawned)
    finally:
        machine.run("umount /run/proc")
    raise AssertionError(f"pid {pid} was not free again")


def test_scopes_of_another_instance_are_out_of_reach(
    machine: Machine, puppets: Puppets, agent: Remote, broker: Line
) -> None:
    flow_run = started(agent, broker, limits={"tasks_max": 20})
    # an instance whose slice would lie below, were its name not escaped
    for instance in ("prod2", "prod1-x"):
        _expect_refusals(puppets.agent(instance).broker(), flow_run)
    wanted = {"ActiveState": "active", "TasksMax": "20", "FreezerState": "running", "Slice": "flowruns-prod1.slice"}
    assert show(machine, scope_of(flow_run), *wanted) == wanted


def test_an_instance_of_another_user_reaches_nothing(
    machine: Machine, puppets: Puppets, agent: Remote, broker: Line
) -> None:
    """Neither by the broker, nor by what a user may do to processes and files of its own."""
    flow_run = started(agent, broker)
    alices = puppets.agent("alices", more="User=alice")
    _expect_refusals(alices.broker(), flow_run)
    pid = machine.run(f"cat /sys/fs/cgroup/flowruns.slice/flowruns-prod1.slice/{scope_of(flow_run)}/cgroup.procs")
    theirs = pid.stdout.split()[0]
    machine.run("rm -f /tmp/tried; touch /var/lib/local-agent/prod1/control")
    for tried in (
        *(f"kill -0 {theirs}", f"kill -0 {agent.pid}", f"cat /proc/{theirs}/environ", f"cat /proc/{agent.pid}/environ"),
        *("ls /var/lib/local-agent/prod1", "ls /var/lib/local-agent-home"),
        *("cat /var/lib/local-agent/prod1/control", "mv /var/lib/local-agent/prod1 /var/lib/local-agent/taken"),
        f"echo {theirs} >/sys/fs/cgroup/flowruns.slice/flowruns-alices.slice/cgroup.procs",
        f"busctl call {_SYSTEMD} StopUnit ss {scope_of(flow_run)} replace",
        f"busctl call {_SYSTEMD} SetUnitProperties 'sba(sv)' {scope_of(flow_run)} true 1 TasksMax t 9",
    ):
        alices.spawn("sh", "-c", f"LC_ALL=C; export LC_ALL; {{ {tried}; }} >/tmp/said 2>&1; echo $? >/tmp/tried")
        machine.wait_until("test -s /tmp/tried")
        assert machine.read("/tmp/tried") != "0\n", tried
        machine.run("rm /tmp/tried")
    assert show(machine, scope_of(flow_run), "ActiveState") == {"ActiveState": "active"}


def test_scopes_outside_the_slice_are_out_of_reach(machine: Machine, broker: Line) -> None:
    flow_run = str(uuid.uuid4())
    with _admin_scope(machine, scope_of(flow_run)):
        _expect_refusals(broker, flow_run)
        assert show(machine, scope_of(flow_run), "ActiveState", "FreezerState") == {
            "ActiveState": "active",
            "FreezerState": "running",
        }


def _expect_refusals(line: Line, flow_run: str) -> None:
    parts: dict[str, Answer] = {"kill": {"signal": 9}, "tail": {"lines": 5}}
    for verb in ("stop", "kill", "reset-failed", "tail"):
        answer = line.asked({"do": verb, "flow_run": flow_run, **parts.get(verb, {})})
        assert answer["error"] == "not-yours", (verb, answer)


@contextlib.contextmanager
def _admin_scope(machine: Machine, unit: str) -> Iterator[None]:
    machine.run(f"systemd-run --scope --unit={unit} --slice=system.slice sleep 557 >/dev/null 2>&1 &")
    machine.wait_until(["systemctl", "is-active", unit])
    yield
    machine.run(["systemctl", "stop", unit])


def test_what_is_not_in_the_protocol_is_refused(machine: Machine, agent: Remote, broker: Line) -> None:
    pid = agent.spawn("sleep", "600")
    for parts in WRONG_PARTS:
        answer = broker.asked(start_message(pid, **parts))
        assert answer["error"] == "bad-request", (parts, answer)
    assert _scopes(machine) == set()


def test_what_is_no_message_ends_the_connection(agent: Remote) -> None:
    for packet in NO_MESSAGES:
        line = agent.broker()
        line.send(packet)
        assert (line.receive() or {})["error"] == "bad-message", packet[:80]
        assert line.receive() is None, packet[:80]


def test_descriptors_are_not_taken(machine: Machine, agent: Remote) -> None:
    pid = show(machine, "local-agent-broker.service", "MainPID")["MainPID"]
    line = agent.broker()
    line.send({"id": 1, **PROBE}, descriptors=200)
    assert (line.receive() or {})["error"] == "bad-message"
    assert line.receive() is None
    assert int(machine.run(f"ls /proc/{pid}/fd | wc -l").stdout) < 30


def test_thousands_of_connections(machine: Machine, puppets: Puppets, agent: Remote, broker: Line) -> None:
    flow_run, _ = _flow_run_of(puppets, agent, broker)
    for _ in range(20):
        assert flow_run.do("knock", BROKER, 100) == 100
        assert "ok" in broker.asked(PROBE)
    for _ in range(7):
        assert "ok" in agent.broker().asked(PROBE)
    line = agent.broker(greet=False)
    assert (line.receive() or {})["error"] == "busy"
    assert line.receive() is None
    warnings = machine.journal("-u", "local-agent-broker.service", "-p", "warning", "-o", "cat", "-g", "turned away")
    assert 0 < len(warnings.splitlines()) <= 60, "a flood of strangers is not a flood of lines"


def test_a_caller_that_vanishes(machine: Machine, puppets: Puppets, broker: Line) -> None:
    for number in range(5):
        agent = puppets.agent(f"gone{number}")
        line = agent.broker()
        for _ in range(10):
            line.send({"id": 1, **start_message(agent.spawn("sleep", "600"))})
        machine.run(["systemctl", "kill", "--signal=KILL", f"local-agent@gone{number}.service"])
        assert "ok" in broker.asked(PROBE)
    for unit in _scopes(machine):
        # one that has ended between the list and this look has no slice any more
        where = show(machine, unit, "Slice")["Slice"]
        assert where.startswith("flowruns-gone") or unit not in _scopes(machine)


def test_a_caller_that_does_not_read_is_hung_up_on(agent: Remote, broker: Line) -> None:
    line = agent.broker()
    packet = b'{"id": 1, "do": "nothing"}'.hex()
    sent = agent.do("send_until_refused", line.number, packet, 100_000)
    assert sent < 100_000, "a caller can fill the broker's memory"
    assert "ok" in broker.asked(PROBE)


def test_many_tails_at_once_are_all_answered(machine: Machine, broker: Line) -> None:
    """Each is a process of the broker, whose unit allows it 32."""
    flow_run = str(uuid.uuid4())
    most = 100
    for number in range(most):
        broker.send({"id": number, "do": "tail", "flow_run": flow_run, "lines": 1})
    answers = [broker.receive() for _ in range(most)]
    assert sorted((answer or {}).get("id", -1) for answer in answers) == list(range(most))
    assert [answer for answer in answers if (answer or {}).get("ok") != {"lines": []}] == []


def _scopes(machine: Machine) -> set[str]:
    listed = machine.run("systemctl list-units --all --plain --no-legend 'flow-run-*'").stdout
    return {line.split()[0] for line in listed.splitlines()}
