"""Agent and flow runs have one user: what the kernel and the agent keep apart all the same."""

from __future__ import annotations

import pytest

from local_agent.linux.domain import has_domains
from support.api import Api, wait_until
from support.checkout import CHECKOUT
from support.machine import Machine
from support.puppets import Puppets
from system.agent.conftest import Instance

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

_STRICT = CHECKOUT / "packaging/examples/strict.conf"
# tries all that a process may do to another one of its user; prints what worked
_TRIES = """\
import ctypes, os, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def works(name, attempt):
    try:
        if attempt() is not False:
            print(name)
    except OSError:
        pass
def opened(name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        if name == "mem":
            file.seek(4096)
        return name == "mem" or bool(file.read(1))
works("environ", lambda: opened("environ"))
works("mem", lambda: opened("mem"))
works("descriptors", lambda: bool(os.listdir(f"/proc/{pid}/fd")))
works("getfd", lambda: libc.syscall(438, os.pidfd_open(pid), 1, 0) >= 0)  # pidfd_getfd(2)
works("ptrace", lambda: libc.ptrace(0x4206, pid, 0, 0) == 0)  # PTRACE_SEIZE
works("signal", lambda: os.kill(pid, 0))
works("status", lambda: opened("status"))
works("cgroup", lambda: opened("cgroup"))
"""
# as a flow run, and as the interpreter is asked: tries it on a process of its own, and on those whose pids are there
_AS_A_FLOW_RUN = """\
#!/bin/sh
[ "$1" != -c ] || echo 1.4.1
[ -d /srv/told ] || exit 0
sleep 60 & own=$!
until grep -q sleep /proc/$own/comm; do sleep 0.1; done
told=/srv/told/$$
for pid in $own $(cat /srv/told/pids); do
    echo $(/usr/bin/python3 -I /srv/tries.py $pid) >>$told
done
kill $own
mv $told $told.whole
"""
# the client of a reload, stopped as soon as it has shut others out: it waits for an agent that is stopped
_HELD_CLIENT = """\
systemctl reload --no-block {unit}
for _ in $(seq 600); do
    client=$(pgrep -u local-agent -f '[r]eload --instance') && [ "$(stat -c %U /proc/$client/environ)" = root ] &&
        kill -STOP $client && echo $client && exit
    sleep 0.05
done
exit 1
"""
_WHERE = """\
#!/bin/sh
[ "$1" = -c ] && { cat /proc/self/cgroup >>/srv/asked/$$; echo 1.4.1 3.11.2; }
"""


def _as_its_user(machine: Machine, pid: str) -> set[str]:
    words = ["runuser", "-u", "local-agent", "--", "/usr/bin/python3", "-I", "-c", _TRIES, pid]
    return set(machine.run(words).stdout.split())


def test_a_process_of_its_user_cannot_reach_into_the_agent(instance: Instance, machine: Machine) -> None:
    instance.start()
    pid = instance.show("MainPID")["MainPID"]
    assert _as_its_user(machine, pid) == {"signal", "status", "cgroup"}, "which the broker and everybody read"
    # another process of that user is within reach: the tries can work
    machine.run("systemd-run --quiet --unit=other.service --uid=local-agent sleep 600")
    other = machine.run("systemctl show -P MainPID other.service").stdout.strip()
    machine.wait_until(f"grep -q sleep /proc/{other}/comm")
    assert {"environ", "descriptors", "getfd", "ptrace"} <= _as_its_user(machine, other)
    machine.run("systemctl stop other.service")
    # and the journal still knows whose lines the agent's are
    assert "_COMM" in instance.journal("-o", "verbose", "-n", "1", f"_PID={pid}")


@pytest.mark.parametrize("sandbox", ["default", "strict"])
def test_a_flow_run_traces_and_signals_nobody_outside_of_it(
    instance: Instance, machine: Machine, api: Api, sandbox: str
) -> None:
    """Where the kernel has domains for that: then there is no moment in which it gets at its agent, or at a shim."""
    if sandbox == "strict":
        instance.drop_in(_STRICT.read_text().replace("ReadWritePaths=/tmp", "ReadWritePaths=/srv /tmp"))
    machine.write("/srv/tries.py", _TRIES)
    machine.write("/srv/python", _AS_A_FLOW_RUN, mode=0o755)
    machine.run("rm -rf /srv/told && systemd-run --quiet --unit=other.service --uid=local-agent sleep 600")
    other = machine.run("systemctl show -P MainPID other.service").stdout.strip()
    machine.wait_until(f"grep -q sleep /proc/{other}/comm")
    machine.run(f"mkdir -m 0777 /srv/told && echo {other} >/srv/told/pids")
    try:
        instance.configure(python="/srv/python")
        instance.start()
        run = api.create_flow_run(api.create_flow(f"traces-{sandbox}", labels=["prod1"]))
        api.wait_for_state(run, "Failed")
        told = machine.run("cat /srv/told/*.whole").stdout.splitlines()
    finally:
        machine.run("systemctl stop other.service; rm -rf /srv/told")
    own, others = [{*line.split()} for line in told[::2]], [{*line.split()} for line in told[1::2]]
    assert len(own) >= 2, "the interpreter was asked, and a flow run ran"
    if sandbox == "default":
        assert all({"environ", "descriptors", "getfd", "ptrace", "signal"} <= one for one in own), told
        within = {"status", "cgroup", "descriptors"}  # of these the numbers, and not what they are
        assert all(has_domains() == (one == within) for one in others), others
    else:
        assert all("signal" in one for one in own)
        assert all(has_domains() == (one == set()) for one in others), "ProtectProc= shows no others in /proc"


def test_the_client_of_a_reload_is_out_of_reach_too(instance: Instance, machine: Machine) -> None:
    """ExecReload= runs it in the agent's cgroup: a flow run that got into it would be out of its limits."""
    instance.drop_in("[Service]\nWatchdogSec=0\n")
    instance.start()
    machine.run(["systemctl", "kill", "--kill-whom=main", "--signal=STOP", instance.unit])
    client = machine.run(_HELD_CLIENT.format(unit=instance.unit), timeout_seconds=90).stdout.strip()
    try:
        assert instance.unit in machine.read(f"/proc/{client}/cgroup")
        assert _as_its_user(machine, client) == {"signal", "status", "cgroup"}
    finally:
        machine.run(f"kill -CONT {client}; systemctl kill --kill-whom=main --signal=CONT {instance.unit}")


def test_what_the_agent_starts_is_within_reach_until_it_is_enclosed(machine: Machine) -> None:
    """SECURITY.md says so, and what closes it; this would tell if it became less."""
    with Puppets(machine) as puppets:
        agent = puppets.agent("prod1")
        child = str(agent.spawn("sleep", "600"))
        machine.wait_until(f"grep -q sleep /proc/{child}/comm")
        assert "local-agent@prod1.service" in machine.read(f"/proc/{child}/cgroup")
        assert {"environ", "ptrace"} <= _as_its_user(machine, child)


def test_no_crash_leaves_a_key(instance: Instance, machine: Machine, api: Api) -> None:
    """systemd-coredump puts the environment of what crashes into the journal; limit 1 keeps the kernel from asking it.

    tests/vm has a kernel of its own to show that.
    """
    machine.write("/srv/sleeps", '#!/bin/sh\n[ "$1" != -c ] || { echo 1.4.1; exit; }\nexec sleep 600\n', mode=0o755)
    instance.configure(python="/srv/sleeps")
    instance.start()
    run = api.create_flow_run(api.create_flow("crashes", labels=["prod1"]))
    cgroup = f"/sys/fs/cgroup/flowruns.slice/flowruns-prod1.slice/flow-run-{run}.scope"
    machine.wait_until(f"grep -q . {cgroup}/cgroup.procs")
    of_run = machine.read(f"{cgroup}/cgroup.procs").split()
    for pid in (instance.show("MainPID")["MainPID"], *of_run):
        assert _core_limit(machine, pid) == ["1", "unlimited"], machine.read(f"/proc/{pid}/cmdline")
    machine.run("systemctl start local-agent-broker.service")
    broker = machine.run("systemctl show -P MainPID local-agent-broker.service").stdout.strip()
    assert _core_limit(machine, broker) == ["1", "1"]
    assert machine.run("systemctl show -P LimitCORE local-agent-server.service").stdout == "1\n"


def _core_limit(machine: Machine, pid: str) -> list[str]:
    limits = machine.read(f"/proc/{pid}/limits").splitlines()
    return next(line.split()[4:6] for line in limits if line.startswith("Max core file size"))


def test_the_interpreter_is_asked_in_a_scope(instance: Instance, machine: Machine, api: Api) -> None:
    """A flow run that may write there has it run what it likes, and would be in the agent's cgroup."""
    machine.run("mkdir -p /srv/asked && chmod 0777 /srv/asked && rm -f /srv/asked/*")
    machine.write("/srv/where", _WHERE, mode=0o755)
    instance.configure(python="/srv/where")
    instance.start()
    wait_until(lambda: "Registered" in instance.journal(), instance.journal)
    run = api.create_flow_run(api.create_flow("asks", labels=["prod1"]))
    api.wait_for_state(run, "Failed", "Submitted", "Running")
    places = machine.run("cat /srv/asked/*").stdout.split()
    assert places
    assert [place for place in places if "local-agent@" in place] == []
    assert all("/flowruns-prod1.slice/flow-run-" in place for place in places if "0::" in place), places
    # nothing of it is left
    machine.wait_until("! systemctl list-units --plain --no-legend 'flow-run-*' | grep -q nobody")


def test_a_flow_run_is_in_its_agents_trust_domain(instance: Instance, machine: Machine) -> None:
    """What it may: SECURITY.md says so, and this would tell if it became less."""
    machine.write("/etc/local-agent/prod1.key", "the-key\n", mode=0o600)
    instance.drop_in("[Service]\nLoadCredential=api-key:/etc/local-agent/prod1.key\n")
    instance.start()
    pid = instance.show("MainPID")["MainPID"]
    as_user = ["runuser", "-u", "local-agent", "--"]
    assert machine.run([*as_user, "kill", "-0", pid], check=False).returncode == 0
    assert machine.run([*as_user, "touch", "/var/lib/local-agent/prod1/forged"], check=False).returncode == 0
    credential = f"/run/credentials/{instance.unit}/api-key"
    assert machine.run([*as_user, "cat", credential], check=False).stdout == "the-key\n"
    assert machine.run(["cat", credential], user="alice", check=False).returncode != 0
