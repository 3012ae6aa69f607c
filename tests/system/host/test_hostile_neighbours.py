"""What root leaves open or lets its shell complete, while users have put anything where it looks."""

from __future__ import annotations

import re
import uuid

import pytest

from local_agent import events
from support.api import wait_until
from support.machine import Machine
from system.host.conftest import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_MINE = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/flowruns.slice/flowruns-mine.slice"
_COMPLETE = "COMP_WORDS='local-agent logs ' COMP_CWORD=2 _LOCAL_AGENT_COMPLETE=bash_complete local-agent"
_COMPLETED = re.compile(r"plain,[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MESS = """\
cd /var/lib/local-agent/prod1
ln -s /dev/zero runs/{0}1.json
mkfifo runs/{0}2.json
truncate -s 1G runs/{0}3.json
printf '\\033]0;hijacked\\007' >runs/{0}4.json
mkdir runs/{0}5.json
"""
_WRITE = "import sys, systemd.journal as j; j.send(sys.argv[1], **dict(one.split('=', 1) for one in sys.argv[2:]))"


def _mess(machine: Machine) -> None:
    """A flow run's user in the state folder, and another one beside it whose socket is a link."""
    script = _MESS.format("00000000-0000-4000-8000-00000000000")
    machine.run(["runuser", "-u", "local-agent", "--", "sh", "-euc", script])
    machine.run("install -d -o alice /var/lib/local-agent/evil")
    machine.run("ln -s /proc /var/lib/local-agent/evil/runs", user="alice")
    machine.run("ln -s ../prod1/control /var/lib/local-agent/evil/control", user="alice")


def _write(machine: Machine, user: str, message: str, **fields: str) -> None:
    words = ["/usr/bin/python3", "-I", "-c", _WRITE, message, *(f"{name}={value}" for name, value in fields.items())]
    machine.run(["runuser", "-u", user, "--", *words])


def test_logs_that_are_followed(host: Host) -> None:
    host.start()
    run = host.new_run("report Running\nawait /srv/go\nreport Success")
    host.api.wait_for_state(run, "Running")
    _mess(host.machine)
    follower = host.machine.spawn(f"local-agent logs -f {run}")
    assert follower.stdout is not None
    assert follower.stdout.readline(), "it follows by now"
    end = {"MESSAGE_ID": events.ENDED.message_id, "FLOW_RUN_ID": run, "SYSLOG_IDENTIFIER": "local-agent"}
    _write(host.machine, "alice", "forged: it has ended", **end)
    _write(host.machine, "alice", "forged: a line", SYSLOG_IDENTIFIER=f"flow-run-{run}")
    _write(
        host.machine, "local-agent", "\x1b]0;hijacked\x07 \x9b31m " + "x" * 100_000, SYSLOG_IDENTIFIER=f"flow-run-{run}"
    )
    host.machine.run("touch /srv/go")
    try:
        shown, _ = follower.communicate(timeout=90)
    finally:
        host.machine.run("rm -f /srv/go")
    assert follower.returncode == 0, shown
    assert "forged" not in shown
    assert "hijacked" in shown, "its own user's line is shown, but harmless"
    assert not set(shown) & {"\x1b", "\x07", "\x9b"}
    assert "Exited with code 0" in shown, "it went on until the real end"


def test_top(host: Host) -> None:
    host.start()
    host.running()
    _mess(host.machine)
    done = host.type("top --delay 0.2", check=False)
    assert done.returncode == 0, done.stderr
    assert "all: 1 run," in done.stdout
    assert not set(done.stdout + done.stderr) & {"\x1b", "\x07"}
    assert "Traceback" not in done.stderr


def test_completions(host: Host) -> None:
    machine = host.machine
    host.start()
    run = host.running()
    _mess(machine)
    machine.linger("alice")
    try:
        odd = ["flow-run-$(reboot).scope", "flow-run-`id`.scope", "flow-run-\x1b]0;x\x07.scope"]
        machine.run(["mkdir", "-p", *(f"{_MINE}/{name}" for name in odd)], user="alice")
        machine.run(f"mkdir {_MINE}/flow-run-{uuid.uuid4()}.scope", user="alice")
        completed = machine.run(_COMPLETE).stdout.splitlines()
    finally:
        machine.run("loginctl disable-linger alice; systemctl stop user@1000.service", check=False)
    assert f"plain,{run}" in completed
    assert len(completed) == 2
    assert [line for line in completed if not _COMPLETED.fullmatch(line)] == []


def test_one_instance_is_not_asked_in_anothers_place(host: Host) -> None:
    """Nor drained: alice's folder leads root's question to the agent of another user."""
    host.start()
    run = host.running()
    _mess(host.machine)
    done = host.type("drain --instance evil", check=False)
    assert done.returncode == 69, done
    assert "no agent answers at /var/lib/local-agent/evil" in done.stderr
    assert not any(agent["draining"] for agent in _agents(host))
    assert host.runs()[run]["instance"] == "prod1"


def test_another_users_instance_tells_nothing_of_this_one(host: Host) -> None:
    """Neither a flow run that ended, nor how one ended: it is believed about its own."""
    host.machine.run("install -d -o alice /var/lib/local-agent/alices")
    forged = {instance: str(uuid.uuid4()) for instance in ("prod1", "alices")}
    host.start()
    run = host.new_run("report Success")
    host.api.wait_for_state(run, "Success")
    host.wait_until_ended(run)
    told = {"MESSAGE_ID": events.ENDED.message_id, "SYSLOG_IDENTIFIER": "local-agent", "FLOW_NAME": "x"}
    for instance, its in (*forged.items(), ("prod1", run)):
        of = {"FLOW_RUN_ID": its, "FLOW_RUN_NAME": "forged", "LOCAL_AGENT": instance}
        _write(host.machine, "alice", "Flow run forged of x ended: Killed by magic", **told, **of)
    wait_until(lambda: forged["alices"] in _ended_runs(host), host.machine.journal)
    shown = _ended_runs(host)
    assert forged["prod1"] not in shown
    assert "magic" not in str(shown[run])
    assert "magic" not in host.type(f"logs {run}").stdout
    # what SECURITY.md says that it may; this would tell if it became less
    assert "magic" in host.type("logs --all").stdout


def _ended_runs(host: Host) -> dict[str, dict[str, object]]:
    return {run["id"]: run for run in host.read("ps -a")["runs"]}


def _agents(host: Host) -> list[dict[str, bool]]:
    return [one["agent"] for one in host.read("status")["instances"] if one["agent"]]
