"""Agents that are no packaged instances: the tools see them, say where they run, and are not fooled by anybody's."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local_agent import events
from support.api import Api, wait_until
from support.machine import Machine
from system.host.conftest import PYTHON, Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_UNIT = "prefect-agent.service"
_START = f"/usr/bin/local-agent start --label hand --no-hostname-label --cancel-grace 1s --python {PYTHON}"


def _unit(api: Api, more: str, start: str = _START) -> str:
    return f"""\
[Unit]
Description=Prefect agent
[Service]
Environment=PREFECT__BACKEND=server PREFECT__SERVER__ENDPOINT={api.url}
ExecStart={start}
Restart=always
{more}
"""


@pytest.fixture
def hand(host: Host) -> Iterator[Host]:
    """A unit as people write it for an agent, of alice, and a flow run of it."""
    machine = host.machine
    machine.write(f"/etc/systemd/system/{_UNIT}", _unit(host.api, "User=alice\nWorkingDirectory=/home/alice"))
    machine.run(f"systemctl daemon-reload && systemctl start {_UNIT}")
    yield host
    _end(machine)


def _end(machine: Machine) -> None:
    machine.run(f"systemctl stop {_UNIT}; rm -f /etc/systemd/system/{_UNIT}", check=False)
    machine.run("loginctl disable-linger alice; systemctl stop user@1000.service", check=False)
    machine.run("pkill -KILL -u alice; pkill -KILL -u bob", check=False)
    # as long as logind remembers her it starts her no manager anew
    machine.wait_until("! loginctl show-user alice")
    machine.run("rm -rf /home/*/.local/state /root/.local/state; systemctl daemon-reload", check=False)


def _hand_run(host: Host) -> str:
    env = {"PLAY": "report Running\nawait /srv/never"}
    config: dict[str, object] = {"type": "LocalRun", "labels": ["hand"], "env": env, "__version__": "1.4.1"}
    run = host.api.create_flow_run(host.api.create_flow("by-hand", run_config=config))
    host.api.wait_for_state(run, "Running")
    return run


def _instances(host: Host, user: str = "root") -> dict[str, dict[str, Any]]:
    return {one["instance"]: one for one in host.read("status", user=user)["instances"]}


def test_an_agent_in_a_unit_of_another_name(hand: Host) -> None:
    run = _hand_run(hand)
    for user, name in (("root", "alice/default"), ("alice", "default")):
        _wait(hand, functools.partial(_is_up, hand, user, name))
        one = _instances(hand, user)[name]
        assert one["service"]["unit"] == _UNIT
        assert one["service"]["active_state"] == "active"
        assert one["agent"]["labels"] == ["hand"]
        assert one["runs"] == 1
        assert one["process"]["user"] == "alice"
        assert one["process"]["ends_with"] == _UNIT
        assert one["process"]["log"] == f"journalctl -u {_UNIT}"
        shown = hand.type("status", user=user, check=False).stderr
        assert f"in {_UNIT}; its flow runs end with {_UNIT}; its log: journalctl -u {_UNIT}" in shown
        assert hand.runs(user)[run]["instance"] == name
        assert run[:8] in hand.type(f"top --delay 0.2 --instance {name}", user=user).stdout
    assert "Flow run" in hand.type(f"logs {run}").stdout
    assert run in hand.type("logs --all --instance alice/default --json").stdout
    found = hand.read("doctor --instance alice/default")["findings"]
    by_check = {one["check"]: one for one in found if one["instance"]}
    assert "instance" not in by_check, by_check["instance"]
    assert {"service", "settings", "state folder", "API", "interpreter", "labels"} <= by_check.keys(), found
    assert by_check["API"]["verdict"] == "ok", "as the unit's own Environment= says"
    shown = json.loads(hand.type("config --instance alice/default --json").stdout)
    assert (shown["from"], shown["settings"]["labels"]["value"]) == ("agent", ["hand"])
    assert " at the API" in hand.type(f"cancel {run}").stdout
    hand.api.wait_for_state(run, "Cancelled")
    _wait(hand, lambda: run in {one["id"] for one in hand.read("ps -a --instance alice/default")["runs"]})


def test_what_doctor_says_of_it_is_fixed_by_what_it_says(hand: Host) -> None:
    def finding() -> dict[str, Any]:
        found = hand.read("doctor --instance alice/default")["findings"]
        return next(one for one in found if one["check"] == "service")

    _wait(hand, functools.partial(_is_up, hand, "root", "alice/default"))
    warned = finding()
    assert warned["verdict"] == "warning"
    assert f"its flow runs end with {_UNIT}" in warned["evidence"]
    hand.machine.run(warned["fix"].partition(" (")[0])
    _wait(hand, functools.partial(_is_up, hand, "root", "alice/default"))
    assert finding()["verdict"] == "ok"
    run = _hand_run(hand)
    assert hand.runs()[run]["tasks"], "the scope is in alice's own manager, and its cgroup is looked at"


def test_agents_that_nobody_put_into_a_unit(host: Host) -> None:
    """Started by hand, by a program that supervises, and by the user's own manager, with folders anywhere."""
    machine = host.machine
    machine.linger("alice")
    env = f"PREFECT__BACKEND=server PREFECT__SERVER__ENDPOINT={host.api.url}"
    machine.run("install -d -o alice -g alice -m 0755 /srv/states")
    machine.spawn(f"exec env {env} {_START} --state-dir /srv/states/one >/srv/states/one.log 2>&1", user="alice")
    machine.spawn(f"env {env} {_START} --state-dir /srv/states/two", user="alice")
    machine.write("/home/alice/.config/systemd/user/mine.service", _unit(host.api, "", f"{_START} --instance mine"))
    machine.run("chown -R alice: /home/alice/.config")
    machine.run("systemctl --user daemon-reload && systemctl --user start mine.service", user="alice")
    try:
        for user, before in (("root", "alice/"), ("alice", "")):
            for name in ("one", "two", "mine"):
                _wait(host, functools.partial(_is_up, host, user, f"{before}{name}"))
            found = {one: _instances(host, user)[f"{before}{one}"]["process"] for one in ("one", "two", "mine")}
            assert found["one"]["state_dir"] == "/srv/states/one"
            assert found["one"]["ends_with"] is None
            assert found["mine"]["unit"] == "mine.service"
            assert found["mine"]["manager"] == "user"
        assert "journalctl _UID=" in _instances(host)["alice/mine"]["process"]["log"]
        assert _instances(host, "alice")["mine"]["process"]["log"] == "journalctl --user -u mine.service"
        assert _instances(host, "alice")["mine"]["service"]["unit"] == "mine.service"
        assert _instances(host)["alice/one"]["process"]["log"] == "tail -f /srv/states/one.log"
        assert "reads it from a pipe" in _instances(host)["alice/two"]["process"]["log"]
        assert _verdict(host, "alice/two", "API") == "ok", "as its own environment says, which only its process has"
        machine.run(["kill", "-STOP", str(_instances(host)["alice/two"]["process"]["pid"])])
        shown = json.loads(host.type("config --instance alice/two --json").stdout)
        assert (shown["from"], shown["settings"]["api"]["value"]) == ("unit", host.api.url)
        _wait(host, lambda: "does not answer" in (_instances(host)["alice/two"]["problem"] or ""))
        machine.run(["kill", "-CONT", str(_instances(host)["alice/two"]["process"]["pid"])])
        assert "draining" in host.type("drain --instance alice/two").stdout
        assert _instances(host)["alice/two"]["agent"]["draining"]
    finally:
        machine.run("systemctl --user stop mine.service", user="alice", check=False)
        machine.run("rm -rf /home/alice/.config/systemd")
        _end(machine)
        machine.run("rm -rf /srv/states")


def _wait(host: Host, condition: Callable[[], object]) -> None:
    wait_until(condition, lambda: host.machine.journal("-n", "40"))


def _verdict(host: Host, name: str, check: str) -> str:
    found = host.read(f"doctor --instance {name}")["findings"]
    return next((one["verdict"] for one in found if one["check"] == check), str(found))


def _is_up(host: Host, user: str, name: str) -> bool:
    return bool(_instances(host, user).get(name, {}).get("agent"))


# whoever holds a lock in a folder of its own looks like an agent
_FAKE = """\
import fcntl, pathlib, socket, subprocess, sys, time
_, _, run, ended = sys.argv
home = pathlib.Path("/home/bob/states")
kept = []
for number in range(40):
    folder = home / str(number)
    (folder / "runs").mkdir(parents=True)
    kept.append((folder / "lock").open("w"))
    fcntl.flock(kept[-1], fcntl.LOCK_EX)
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].bind(str(folder / "control"))
    kept[-1].listen(9)  # and never a word
(home / "0/runs" / f"{run}.json").symlink_to("/dev/zero")
(home / "1/runs").rmdir()
(home / "1/runs").symlink_to("/var/lib/local-agent/prod1/runs")
(home / "evil\\x1b[2J").mkdir()
kept.append((home / "evil\\x1b[2J" / "lock").open("w"))
kept.append((home / "../lock").open("w"))
for name in ("prod1", "0", "bob/0"):
    said = {
        "MESSAGE": "Flow run x of y ended: bob was here", "MESSAGE_ID": ended, "FLOW_RUN_ID": run,
        "FLOW_RUN_NAME": "bob was here", "FLOW_NAME": "y", "LOCAL_AGENT": name, "SYSLOG_IDENTIFIER": "local-agent",
    }
    text = "".join(f"{key}={value}\\n" for key, value in said.items())
    subprocess.run(["logger", "--journald"], input=text, text=True, check=True)
shim = ["-c", "exec sleep 600", "/x/launchers/shim.sh", f"/var/lib/local-agent/prod1/runs/{run}"]
subprocess.Popen(["bash", "-c", f"exec -a /bin/sh bash {' '.join(shim[2:])}"])
(home / "ready").touch()
time.sleep(600)
"""


def test_what_calls_itself_an_agent_fools_nobody(host: Host) -> None:
    """bob runs what looks like agents, with links to others' folders, and says what he likes about their runs."""
    host.start()
    run = host.running()
    machine = host.machine
    machine.run("id bob || useradd --create-home bob")
    machine.write("/srv/local-agent", _FAKE)
    fake = machine.spawn(["/usr/bin/python3", "/srv/local-agent", "start", run, events.ENDED.message_id], user="bob")
    try:
        machine.wait_until("test -e /home/bob/states/ready")
        shown = _instances(host)
        assert shown["prod1"]["agent"]
        assert shown["prod1"]["runs"] == 1
        assert any(name.startswith("bob/") for name in shown), "it is said that there is something"
        assert all(name == "prod1" or name.startswith("bob/") for name in shown), shown.keys()
        assert len(shown) < 20, "and not more than anybody has"
        assert [one["instance"] for one in host.read("ps")["runs"]] == ["prod1"]
        for line in ("ps", "status", "top --delay 0.2", f"logs {run}", "logs --all", "doctor"):
            done = host.type(line, check=False)
            assert "Traceback" not in done.stderr, line
            assert "\x1b" not in done.stdout + done.stderr, line
            assert "bob was here" not in done.stdout, line
        machine.run(["systemctl", "kill", "--signal=KILL", f"flow-run-{run}.scope"])
        host.wait_until_ended(run)
        runs = host.read("ps -a")["runs"]
        (ended,) = [one for one in runs if one["id"] == run and one["instance"] == "prod1"]
        assert "SIGKILL" in ended["how"]
        assert (ended["cause"], ended["exit_code"]) == ("signalled", None)
        assert {one["instance"] for one in runs if one["name"] == "bob was here"} <= {"bob/0"}
        assert "SIGKILL" in host.type(f"logs {run}").stdout
    finally:
        fake.kill()
        _end(machine)
        machine.run("rm -rf /home/bob/states /home/bob/lock /srv/local-agent")
