"""Leaving a scope by way of systemd itself: closed where the package can, noticed and ended where it cannot."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from support.machine import Machine
from support.puppets import Puppets
from system.broker.conftest import scope_of, start_message
from system.host.conftest import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_MANAGER = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
_ATTACH = f"busctl call {_MANAGER} AttachProcessesToUnit ssau user@1000.service / 1"
_LINGER = "busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager SetUserLinger ubb"


@pytest.fixture
def lingering(machine: Machine) -> Iterator[Machine]:
    """A machine on which alice has a manager of her own."""
    machine.linger("alice")
    yield machine
    machine.run("loginctl disable-linger alice; systemctl stop user@1000.service", check=False)


@pytest.fixture
def puppets(machine: Machine) -> Iterator[Puppets]:
    """Puppets to be placed in the machine."""
    with Puppets(machine) as puppets:
        yield puppets


def test_a_run_that_left_its_scope_is_noticed_and_ended(lingering: Machine, host: Host) -> None:
    host.instance.drop_in("[Service]\nUser=alice\nGroup=alice\n")
    lingering.run("mkdir -p /srv/out && chmod 0777 /srv/out")
    host.start()
    run = host.running()
    unit = scope_of(run)
    cgroup = f"/sys/fs/cgroup/flowruns.slice/flowruns-prod1.slice/{unit}"
    pids = lingering.read(f"{cgroup}/cgroup.procs").split()
    # as the flow run itself could
    for pid in pids:
        lingering.run(f"{_ATTACH} {pid}", user="alice")
    host.wait_until_ended(run)
    host.api.wait_for_state(run, "Failed")
    said = json.loads(
        lingering.journal("-u", host.instance.unit, "-o", "json", "-g", "has left its scope").splitlines()[0]
    )
    assert said["FLOW_RUN_ID"] == run
    assert "user@1000.service" in said["MESSAGE"]
    for pid in pids:
        assert lingering.run(["kill", "-0", pid], check=False).returncode != 0, "it goes on outside"


def test_doctor_tells_of_a_user_with_a_manager(lingering: Machine, host: Host) -> None:
    host.start()
    found = {one["check"]: one for one in host.read("doctor")["findings"]}
    assert found["logins"]["verdict"] == "ok"
    host.instance.drop_in("[Service]\nUser=alice\n")
    for undo in ("true", "loginctl disable-linger alice", "systemctl stop user@1000.service"):
        lingering.run(undo)
        found = {one["check"]: one for one in host.read("doctor")["findings"]}
        assert found["logins"]["verdict"] == "warning", undo
        assert found["logins"]["instance"] == "prod1"


@pytest.mark.parametrize("user", ["local-agent", "alice"])
def test_the_bus_lets_no_flow_run_be_moved(lingering: Machine, puppets: Puppets, user: str) -> None:
    """Whichever user it has: the bus sees the group that its service gave it, and that the user's logins have not."""
    machine = lingering
    machine.run("rm -f /tmp/told; systemctl reload dbus")  # as its package does where another brings a policy
    agent = puppets.agent("prod1", more=f"User={user}")
    child = puppets.child(agent)
    flow_run = str(uuid.uuid4())
    assert agent.broker().asked(start_message(child.pid, flow_run))["ok"] == {}
    uid = machine.run(["id", "-u", user]).stdout.strip()
    for words in (f"{_ATTACH} {child.pid}", f"{_LINGER} {uid} true false"):
        child.spawn("sh", "-c", f"{words} >/tmp/said 2>&1; echo $? >>/tmp/said; mv /tmp/said /tmp/told")
        machine.wait_until("test -e /tmp/told")
        told = machine.read("/tmp/told")
        machine.run("rm /tmp/told")
        assert "Access denied" in told, told
    assert child.do("cgroup").endswith(scope_of(flow_run))
    # what flow runs and agents ask the bus for stays, and what the user's own logins do
    child.spawn("sh", "-c", "systemctl is-active local-agent@prod1.service >/tmp/told")
    machine.wait_until("grep -q ^active /tmp/told")
    machine.run("systemd-run --user --scope --quiet true", user="alice")


def test_an_account_that_has_expired_gets_no_manager(machine: Machine) -> None:
    """Which is what the package does to the user local-agent; a service needs no session."""
    uid = machine.run(["id", "-u", "local-agent"]).stdout.strip()
    machine.run("usermod --expiredate 1 local-agent")
    try:
        machine.run("loginctl enable-linger local-agent", check=False)
        machine.wait_until(f"systemctl is-failed user@{uid}.service")
        assert machine.run("systemd-run --wait --quiet --uid=local-agent true", check=False).returncode == 0
    finally:
        machine.run(f"loginctl disable-linger local-agent; systemctl reset-failed user@{uid}.service", check=False)
        machine.run("usermod --expiredate '' local-agent")
