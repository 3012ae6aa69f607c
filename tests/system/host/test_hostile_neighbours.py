"""What root leaves open or lets its shell complete, while users have put anything where it looks."""

from __future__ import annotations

import json
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
_WRITE_MANY = (
    "import json, sys, systemd.journal as j\nfor one in json.load(sys.stdin): j.send(one.pop('MESSAGE'), **one)"
)
# in the place of prod1's control socket: agrees to one question, refuses the next
_ANSWERS = """\
import json, os, socket
os.chdir("/var/lib/local-agent/prod1")
os.unlink("control")
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind("control")
    listener.listen()
    print("ready", flush=True)
    is_ok = True
    while True:
        connection, _ = listener.accept()
        with connection:
            asked = json.loads(connection.recv(4096))["do"]
            if asked in ("drain", "undrain", "poke", "reload", "cancel"):
                is_ok = not is_ok
                words = "\\x1b]0;hijacked\\x07 \\x9b31m"
                answer = {"ok": is_ok, "message": words, "hint": words, "exit_code": 1}
                connection.sendall(json.dumps(answer).encode() + b"\\n")
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
    # about this one's flow run under this one's name, under its own, and under that of nobody
    for instance, its in (*forged.items(), ("prod1", run), ("alices", run), ("ghost", run)):
        of = {"FLOW_RUN_ID": its, "FLOW_RUN_NAME": "forged", "LOCAL_AGENT": instance}
        _write(host.machine, "alice", "Flow run forged of x ended: Killed by magic", **told, **of)
    wait_until(lambda: forged["alices"] in _ended_runs(host), host.machine.journal)
    _write(host.machine, "alice", "magic: a line", SYSLOG_IDENTIFIER=f"flow-run-{run}")
    shown = _ended_runs(host)
    assert forged["prod1"] not in shown
    assert [one["how"] for one in host.read("ps -a")["runs"] if one["id"] == run] == [shown[run]["how"]]
    assert "magic" not in str(shown[run])
    for word in (run, run[:8]):
        assert "magic" not in (said := host.type(f"logs {word}").stdout)
        assert "ended: Exited with code 0" in said
    # what SECURITY.md says that it may; this would tell if it became less
    assert "magic" in host.type("logs --all").stdout


def test_nobody_hides_a_flow_run_that_ended(host: Host) -> None:
    """Anybody may write any number of ids into the journal, and another instance's user any number of ends."""
    host.machine.run("install -d -o alice /var/lib/local-agent/alices")
    host.start()
    run = host.new_run("report Success")
    host.api.wait_for_state(run, "Success")
    host.wait_until_ended(run)
    ids = [run[:8] + str(uuid.uuid4())[8:] for _ in range(30)] + [f"{run}{number}" for number in range(30)]
    told = {"MESSAGE_ID": events.ENDED.message_id, "SYSLOG_IDENTIFIER": "local-agent", "LOCAL_AGENT": "alices"}
    lines = [{"MESSAGE": "Flow run x (y) of z ended: noise", "FLOW_RUN_ID": one, **told} for one in ids]
    writer = ["runuser", "-u", "alice", "--", "/usr/bin/python3", "-I", "-c", _WRITE_MANY]
    host.machine.run(writer, stdin=json.dumps(lines))
    wait_until(lambda: ids[-1] in host.machine.run("journalctl -F FLOW_RUN_ID").stdout, host.machine.journal)
    assert run in _ended_runs(host)
    for word in (run[:8], run[:20], run):
        assert "ended: Exited with code 0" in host.type(f"logs {word}").stdout, word


def test_a_name_meets_no_other_flow_run(host: Host) -> None:
    """Whoever names a flow run after another one's id would have root stop it in that one's place."""
    host.start()
    meant = host.running()
    config = {"type": "LocalRun", "labels": ["prod1"], "env": {"PLAY": "await /srv/never"}, "__version__": "1.4.1"}
    flow = host.api.create_flow("decoys", run_config=config)
    decoys = [host.api.create_flow_run(flow, name=name) for name in (meant, meant[:8])]
    wait_until(lambda: set(decoys) <= set(host.runs()), host.instance.journal)
    refused = host.type(f"cancel --stop {meant[:8]}", check=False)
    assert refused.returncode == 66, refused
    assert "may mean" in refused.stderr
    assert meant in host.type(f"set {meant} tasks=50 --json").stdout
    host.type(f"cancel --stop {meant}")
    host.wait_until_ended(meant)
    assert set(decoys) <= set(host.runs())


def test_who_answers_in_an_agents_place_steers_no_terminal(host: Host) -> None:
    """Its user may put a socket of their own where root asks."""
    host.start()
    run = host.running()
    lines = [f"{word} --instance prod1" for word in ("drain", "undrain", "poke", "reload")] + [f"cancel {run}"]
    host.machine.write("/srv/answers.py", _ANSWERS)
    answering = host.machine.spawn("exec runuser -u local-agent -- /usr/bin/python3 -I /srv/answers.py")
    assert answering.stdout is not None
    assert answering.stdout.readline() == "ready\n"
    for line in lines:
        shown = host.machine.run(f"script -qec 'local-agent {line}' /dev/null", check=False).stdout
        assert "hijacked" in shown, line
        assert not set(shown) & {"\x1b", "\x07", "\x9b"}, line


def test_a_key_that_is_a_pipe_keeps_nobody_waiting(host: Host) -> None:
    """Whoever may write an instance's settings names its key's file, and root's commands read the settings, too."""
    host.start()
    host.machine.run("mkfifo -m 0666 /srv/pipe && ln -sf /dev/zero /srv/endless")
    for name, words in (("pipe", "nothing is written to it"), ("endless", "neither a file nor a pipe")):
        host.machine.write("/etc/local-agent/prod1.toml", f'api_key_file = "/srv/{name}"\n')
        done = host.machine.run("timeout 30 local-agent drain --instance prod1", check=False)
        assert done.returncode == 78, done
        assert words in done.stderr
    host.machine.run("rm /etc/local-agent/prod1.toml /srv/pipe /srv/endless")


def _ended_runs(host: Host) -> dict[str, dict[str, object]]:
    return {run["id"]: run for run in host.read("ps -a")["runs"]}


def _agents(host: Host) -> list[dict[str, bool]]:
    return [one["agent"] for one in host.read("status")["instances"] if one["agent"]]
