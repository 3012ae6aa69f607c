"""The operator's commands on real scopes of real systemds, as root and as anybody."""

from __future__ import annotations

import json
import uuid

import pytest

from support.api import wait_until
from support.commands_docs import undocumented
from support.machine import Machine
from system.host.conftest import PYTHON, SLOW, Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_ps_lists_runs_for_root_and_for_anybody(host: Host) -> None:
    host.start()
    run = host.running()
    seen, by_alice = host.runs()[run], host.runs("alice")[run]
    assert (seen["instance"], seen["state"], seen["manager"]) == ("prod1", "running", "system")
    assert seen["unit"] == f"flow-run-{run}.scope"
    assert seen["cpu_seconds"] > 0
    assert seen["tasks"] >= 2
    assert by_alice["api_state"] is None, "that is the agent's to know"
    for key in ("id", "name", "flow", "instance", "state", "unit", "since"):
        assert by_alice[key] == seen[key]
    assert host.type("ps", user="alice").stderr == ""
    assert run[:8] in host.type("ps").stdout


def test_what_the_agent_encloses_for_itself_is_no_flow_run(host: Host, machine: Machine) -> None:
    """While it asks the interpreter of flow runs for its prefect there is a scope, and no flow run to choose."""
    machine.write(SLOW, "")
    host.start()
    listed = ["systemctl", "list-units", "--plain", "--no-legend", "flow-run-*.scope"]
    wait_until(lambda: "Flow run of nobody" in machine.run(listed).stdout, host.instance.journal)
    assert (host.runs(), host.read("top --delay 0.2")["runs"]) == ({}, [])
    machine.run(["rm", SLOW])
    run = host.running()
    assert set(host.runs()) == {run}
    assert "nobody" not in host.type("logs --all").stdout


def test_what_is_printed_as_json_is_what_is_documented(host: Host) -> None:
    host.start()
    run = host.running()
    for command in ("ps", "ps -a", "status", "doctor"):
        assert undocumented(command.split()[0], host.read(command)) == set(), command
    seen = host.read("top --delay 0.2")
    (one,) = seen["runs"]
    assert (
        undocumented("ps", {**host.read("ps"), "runs": [{k: v for k, v in one.items() if k != "cpu_percent"}]}) == set()
    )
    assert undocumented("top", {**seen, "runs": [{"cpu_percent": one["cpu_percent"]}]}) == set()
    for line in (f"freeze {run}", f"thaw {run}", f"set {run} cpu=150%", f"cancel {run}", "cancel black-swan"):
        deed = host.read(line)
        assert undocumented("cancel", deed) == set(), line
        assert deed["ok"] == (deed["flow_run_id"] == run)
    lines = host.type(f"logs {run} --json").stdout.splitlines()
    assert lines
    for line in lines:
        assert undocumented("logs", json.loads(line)) == set()


def test_a_user_has_flow_runs_of_their_own(host: Host, machine: Machine) -> None:
    run = str(uuid.uuid4())
    machine.linger("alice")
    scope = ["--user", "--scope", "--quiet", "--slice=flowruns-mine.slice", f"--unit=flow-run-{run}.scope"]
    machine.spawn(["systemd-run", *scope, "--description=Flow run blue-jay of mine", "sleep", "600"], user="alice")
    wait_until(lambda: run in host.runs("alice"), machine.journal)
    seen = host.runs("alice")[run]
    assert (seen["manager"], seen["instance"], seen["flow"], seen["name"]) == ("user", "mine", "mine", "blue-jay")
    assert run not in host.runs()
    host.type("freeze blue-jay", user="alice")
    assert host.runs("alice")[run]["state"] == "frozen"
    host.type("cancel blue-jay --stop", user="alice")
    assert run not in host.runs("alice")


def test_logs_have_every_line_in_order(host: Host) -> None:
    """journald loses the unit of most of these lines: their writers are gone when it looks."""
    host.start()
    run = host.new_run("report Success", LINES="2000")
    host.api.wait_for_state(run, "Success")
    host.wait_until_ended(run)
    printed = [json.loads(line) for line in host.type(f"logs {run} --json").stdout.splitlines()]
    said = [line["text"] for line in printed if line["source"] == "flow"]
    assert said == [f"line {number}" for number in range(1, 2001)]
    by_agent = [line["text"] for line in printed if line["source"] == "agent"]
    assert any("started: flow-run-" in text for text in by_agent)
    assert "ended: Exited with code 0" in by_agent[-1]
    (told,) = [one for one in host.read("ps -a")["runs"] if one["id"] == run]
    assert (told["cause"], told["exit_code"], told["outcome"]) == ("exited", 0, "nothing-to-say")
    assert told["how"].startswith("Exited with code 0; used ")
    assert told["cpu_seconds"] > 0
    only = host.type(f"logs {run[:8]} --flow-only -n 2").stdout.splitlines()
    assert [line.split()[-1] for line in only] == ["1999", "2000"]
    assert "line 1" not in host.type(f"logs {run} --agent-only").stdout
    assert "line 2000" in host.type("logs --all --instance prod1").stdout
    other = host.type("logs --all --instance other", check=False)
    assert (other.returncode, other.stdout) == (66, "")
    by_alice = host.type(f"logs {run} --flow-only", user="alice", check=False)
    assert (by_alice.returncode, by_alice.stdout) == (66, ""), "it has ended, and the journal does not tell her of it"


def test_nobody_can_put_words_into_a_flow_runs_mouth(host: Host) -> None:
    host.start()
    run = host.running()
    host.machine.run(f"echo forged | systemd-cat -t flow-run-{run}", user="alice")
    host.machine.run(f"echo genuine | systemd-cat -t flow-run-{run}")
    host.machine.wait_until(f"journalctl -t flow-run-{run} -o cat | grep -q genuine")
    assert "genuine" in host.type(f"logs {run}").stdout
    assert "forged" not in host.type(f"logs {run}").stdout
    assert "may not read the journal" in host.type(f"logs {run}", user="alice").stderr, "her own line is all she sees"


def test_following_ends_with_the_run(host: Host) -> None:
    host.start()
    run = host.new_run("report Running\nsay before\nawait /srv/go\nsay after\nreport Success")
    host.api.wait_for_state(run, "Running")
    following = host.machine.spawn(["local-agent", "logs", "-f", run])
    assert following.stdout is not None
    first = iter(following.stdout.readline, "")
    assert any("before" in line for line in first)
    host.machine.write("/srv/go", "")
    rest = following.stdout.read()
    assert "after" in rest
    assert "ended: Exited with code 0" in rest.splitlines()[-1]
    assert following.wait(60) == 0


def test_what_is_no_flow_run_is_said(host: Host) -> None:
    for line in ("logs 0123456789", "logs --since yesterday no-such-name"):
        done = host.type(line, check=False)
        assert done.returncode == 66
        assert done.stderr.startswith("error: no flow run")
        assert "hint: local-agent ps -a" in done.stderr
    assert host.type("logs", check=False).returncode == 78


def test_status_tells_whether_all_is_well(host: Host) -> None:
    host.start("limit = 2")
    host.running()
    wait_until(lambda: host.type("status", check=False).returncode == 0, host.instance.journal)
    (seen,) = host.read("status")["instances"]
    assert seen["service"]["active_state"] == "active"
    assert (seen["agent"]["labels"], seen["agent"]["slots_taken"], seen["runs"]) == (["prod1"], 1, 1)
    assert "1/2" in host.type("status").stdout
    # systemd is told every two seconds
    wait_until(lambda: host.type("status", user="alice", check=False).returncode == 0, host.instance.journal)
    assert host.type("status", user="alice").stderr == ""
    assert host.read("status", user="alice")["instances"][0]["agent"] is None
    assert host.type("status --instance prod2", check=False).returncode == 66
    host.machine.write("/etc/local-agent/prod1.toml", "limitt = 3\n")
    host.machine.run(["systemctl", "restart", host.instance.unit], check=False)
    wait_until(lambda: host.instance.show("ActiveState")["ActiveState"] == "failed", host.instance.journal)
    for user in ("root", "alice"):
        done = host.type("status", user=user, check=False)
        assert done.returncode == 1
        assert "exit code 78, a setting is wrong" in done.stderr


def test_status_tells_of_an_api_out_of_reach(host: Host) -> None:
    host.instance.configure(python=PYTHON, api_url="http://127.0.0.1:9")
    host.instance.start()
    reason = "does not answer"
    wait_until(lambda: reason in host.type("status", check=False).stderr, host.instance.journal)
    wait_until(lambda: reason in host.type("status", user="alice", check=False).stderr, host.instance.journal)
    assert "lost" in host.type("status", check=False).stdout


def test_cancel_at_the_api_and_without_an_agent(host: Host) -> None:
    host.start()
    at_the_api, here = host.running(), host.running()
    said = host.type(f"cancel {at_the_api[:8]}").stdout
    assert "is Cancelling at the API" in said
    assert host.api.state(at_the_api) == "Cancelling", "what becomes of it then is the agent's own business"
    denied = host.type(f"cancel {here}", user="alice", check=False)
    assert denied.returncode == 69
    unread = host.type(f"logs {here}", user="alice", check=False)
    assert (unread.returncode, unread.stdout) == (69, "")
    assert "hint: run this as root, or as a member of systemd-journal" in unread.stderr
    assert "hint: run this as root" in denied.stderr
    host.machine.run(["systemctl", "stop", host.instance.unit])
    stopped = host.type("status", check=False)
    assert stopped.returncode == 1
    assert f"{host.instance.unit} does not run, and" in stopped.stderr
    host.machine.run(["systemctl", "freeze", f"flow-run-{here}.scope"])
    assert "no agent of prod1 answers now" in host.type(f"cancel {here}").stdout
    assert not host.instance.scope_is(here, "active")
    assert host.api.state(here) == "Running"
    host.instance.start()
    host.api.wait_for_state(here, "Cancelled", seconds=60)


def test_freeze_thaw_and_new_limits(host: Host) -> None:
    host.start()
    run = host.running()
    host.type(f"freeze {run}")
    assert host.runs("alice")[run]["state"] == "frozen"
    assert host.type(f"thaw {run}", user="alice", check=False).returncode == 69
    host.type(f"thaw {run}")
    assert host.runs()[run]["state"] == "running"
    host.type(f"set {run} memory=8G cpu=150%")
    shown = host.machine.run(f"systemctl show -p MemoryMax,CPUQuotaPerSecUSec flow-run-{run}.scope").stdout
    assert set(shown.split()) == {f"MemoryMax={8 << 30}", "CPUQuotaPerSecUSec=1.500000s"}
    wrong = host.type(f"set {run} memory=8", check=False)
    assert wrong.returncode == 78
    assert "error: these are no limits" in wrong.stderr


def _verdicts(host: Host, user: str = "root") -> dict[str, str]:
    return {finding["check"]: finding["verdict"] for finding in host.read("doctor", user=user)["findings"]}


def test_doctor_is_content_with_a_healthy_host(host: Host) -> None:
    host.start()
    wait_until(lambda: host.type("status", check=False).returncode == 0, host.instance.journal)
    verdicts = _verdicts(host)
    # this machine is a container: without controllers, with the pressure of the kernel outside, its disk is memory
    not_here = {"cgroups", "pressure", "disk"}
    assert {name for name, verdict in verdicts.items() if verdict != "ok"} <= not_here, host.type("doctor").stdout
    assert {"systemd", "broker", "journal", "service", "settings", "API", "interpreter", "canary"} <= verdicts.keys()
    assert host.type("doctor").returncode == 0
    assert "canary" not in host.machine.run("systemctl list-units --all 'local-agent-canary*' --no-legend").stdout
    assert "sleep 600" not in host.machine.run("ps -eo args").stdout


def test_doctor_finds_what_is_wrong(host: Host) -> None:
    host.instance.configure(python="/usr/bin/python3", api_url="http://127.0.0.1:9")
    host.instance.start()
    host.machine.write("/etc/systemd/journald.conf.d/test.conf", "[Journal]\nStorage=volatile\n")
    host.machine.run("systemctl restart systemd-journald && systemctl stop local-agent-broker.socket")
    host.machine.write("/etc/systemd/system/local-agent@.service.d/later.conf", "[Service]\nNice=1\n")
    host.machine.run("rm -rf /var/log/journal/*")
    try:
        done = host.type("doctor", check=False)
        assert done.returncode == 1
        verdicts = _verdicts(host)
        for name in ("broker", "API", "interpreter"):
            assert verdicts[name] == "failure", done.stdout
        for name in ("journal", "units"):
            assert verdicts[name] == "warning", done.stdout
        assert "systemctl enable --now local-agent-broker.socket" in done.stdout
    finally:
        host.machine.run("rm /etc/systemd/journald.conf.d/test.conf && systemctl restart systemd-journald")
