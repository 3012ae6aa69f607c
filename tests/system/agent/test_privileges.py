"""An agent without privileges, the broker that makes its scopes, and what flow runs can still do in its sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from support import real_flows
from support.api import Api, wait_until
from support.checkout import CHECKOUT
from support.machine import Machine
from system.agent.conftest import FLOWS_HOME, Instance

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

Flows = Mapping[str, str]
BROKER = "local-agent-broker.service"
_STRICT = CHECKOUT / "packaging/examples/strict.conf"
_HOME = "/var/lib/local-agent-home"
_AS_ITS_USER = ["env", f"HOME={_HOME}", "runuser", "-u", "local-agent", "--", "sh", "-c"]
_PLANT = """\
folder=$(python3 -m site --user-site)
mkdir -p "$folder" && echo 'open("/tmp/reached", "w")' >"$folder/usercustomize.py"
"""


def _status_of(machine: Machine, flow_run_id: str) -> dict[str, str]:
    """Return /proc/PID/status of the first process of a flow run."""
    cgroup = machine.run(["systemctl", "show", "-P", "ControlGroup", f"flow-run-{flow_run_id}.scope"]).stdout.strip()
    pid = machine.read(f"/sys/fs/cgroup{cgroup}/cgroup.procs").split()[0]
    return _status_in(machine, pid)


def _status_in(machine: Machine, pid: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in machine.read(f"/proc/{pid}/status").splitlines() if ":\t" in line)


def test_agent_and_flow_runs_have_no_privileges(instance: Instance, machine: Machine, api: Api, flows: Flows) -> None:
    instance.start()
    assert "through the broker" in instance.journal("-o", "cat")
    run = api.create_flow_run(flows["nap"], parameters={"seconds": 600})
    api.wait_for_state(run, "Running")
    agent = _status_in(machine, instance.show("MainPID")["MainPID"])
    for status in (agent, _status_of(machine, run)):
        assert status["Uid"].split() == [machine.run("id -u local-agent").stdout.strip()] * 4
        assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == int(status["CapAmb"], 16) == 0
        assert status["NoNewPrivs"] == "1"


def test_what_the_sandbox_shuts_is_shut_for_everybody_in_it(instance: Instance, machine: Machine) -> None:
    """For root, too, who is stopped by nothing else."""
    instance.start()
    inside = ["nsenter", "--mount", "-t", instance.show("MainPID")["MainPID"], "sh", "-c"]
    shut = ("/usr/x", "/boot/x", "/etc/x", "/proc/sys/kernel/domainname", "/sys/fs/cgroup/cgroup.procs")
    for path in shut:
        tried = machine.run([*inside, f": >>{path}"], check=False)
        assert "Read-only file system" in tried.stderr, (path, tried)
    machine.run([*inside, ": >/srv/x && rm /srv/x"])


def test_a_broker_that_dies_is_started_again(instance: Instance, machine: Machine, api: Api, flows: Flows) -> None:
    instance.start()
    first = api.create_flow_run(flows["nap"], parameters={"seconds": 10})
    api.wait_for_state(first, "Running")
    machine.run(["systemctl", "kill", "--signal=KILL", BROKER])
    machine.wait_until(f"test $(systemctl is-active {BROKER}) != active")
    second = api.create_flow_run(flows["hello"])
    for run in (first, second):
        api.wait_for_state(run, "Success")
        wait_until(lambda run=run: instance.scope_is(run, "inactive"), instance.journal)  # type: ignore[misc] # a default


def test_an_instance_of_another_user(instance: Instance, machine: Machine, api: Api, flows: Flows) -> None:
    instance.drop_in("[Service]\nUser=alice\n")
    instance.start()
    run = api.create_flow_run(flows["nap"], parameters={"seconds": 5})
    api.wait_for_state(run, "Running")
    assert _status_of(machine, run)["Uid"].split()[0] == machine.run("id -u alice").stdout.strip()
    api.wait_for_state(run, "Success")
    wait_until(lambda: instance.scope_is(run, "inactive"), instance.journal)
    machine.run(["systemctl", "reload", instance.unit])


def test_an_instance_whose_name_has_all_that_a_name_may(machine: Machine, api: Api) -> None:
    instance = Instance(machine, api, "Prod-1_a.b:c")
    machine.write("/srv/ends", '#!/bin/sh\n[ "$1" != -c ] || { echo 1.4.1; exit; }\nexit 3\n', mode=0o755)
    instance.configure(python="/srv/ends")
    instance.start()
    run = api.create_flow_run(api.create_flow("names", labels=[instance.name]))
    api.wait_for_state(run, "Failed")
    assert machine.run("ls /var/lib/local-agent").stdout.split() == [instance.name]
    assert instance.name in machine.run("local-agent status", check=False).stdout


def test_the_last_words_of_a_flow_run_that_never_reported(
    instance: Instance, machine: Machine, api: Api, flows: Flows
) -> None:
    """They are in the journal, which the agent's user may not read: the broker does."""
    machine.write(
        "/srv/dies", '#!/bin/sh\n[ "$1" != -c ] || { echo 1.4.1; exit; }\necho this is why\nexit 3\n', mode=0o755
    )
    instance.configure(python="/srv/dies")
    instance.start()
    run = api.create_flow_run(flows["hello"])
    api.wait_for_state(run, "Failed")
    assert api.states(run)[-1]["message"].endswith("this is why")


def test_a_restart_in_the_strict_sandbox_takes_nothing_from_flow_runs(
    instance: Instance, machine: Machine, api: Api, flows: Flows
) -> None:
    """Not their shared memory either, which RemoveIPC= would: it is the service's user's, and the service has ended."""
    held = ("/dev/shm/held", "/tmp/held", f"{_HOME}/held")
    script = f"""#!/bin/sh\n[ "$1" != -c ] || {{ echo 1.4.1; exit; }}\ntouch {" ".join(held)}\nexec sleep 600\n"""
    machine.write("/srv/holds", script, mode=0o755)
    instance.configure(python="/srv/holds")
    instance.drop_in(_STRICT.read_text())
    instance.start()
    run = api.create_flow_run(flows["hello"])
    machine.wait_until(["test", "-e", held[-1]])
    machine.run(["systemctl", "restart", instance.unit], timeout_seconds=90)
    assert instance.scope_is(run, "active")
    machine.run(["ls", *held])
    machine.run(["systemctl", "stop", instance.unit, f"flow-run-{run}.scope"], timeout_seconds=90)
    machine.run(["rm", *held])


def test_flow_runs_cannot_reach_into_agents(instance: Instance, machine: Machine, api: Api, flows: Flows) -> None:
    """Not by what the agent's Python would import from their home, and not into the folders of other users."""
    machine.run([*_AS_ITS_USER, _PLANT])
    machine.run([*_AS_ITS_USER, "python3 -c '' && rm /tmp/reached"])
    instance.start()
    machine.run(["systemctl", "reload", instance.unit])
    assert machine.run(["test", "-e", "/tmp/reached"], check=False).returncode == 1
    alices = Instance(machine, api, "alices")
    alices.drop_in("[Service]\nUser=alice\n")
    alices.start()
    taken = machine.run([*_AS_ITS_USER, "mv /var/lib/local-agent/alices /var/lib/local-agent/taken"], check=False)
    assert "Permission denied" in taken.stderr


@pytest.mark.parametrize("sandbox", ["default", "strict"])
def test_flows_live_in_the_sandbox(instance: Instance, machine: Machine, api: Api, sandbox: str) -> None:
    if sandbox == "strict":
        instance.drop_in(_STRICT.read_text())
    instance.start()
    run = api.create_flow_run(_register_wide(machine, api))
    api.wait_for_state(run, "Success", "Failed")
    wait_until(lambda: instance.scope_is(run, "inactive"), instance.journal)
    ends = {task["task"]["slug"]: task["state"] for task in api.task_runs(run)}
    output = machine.journal("-t", f"flow-run-{run}", "-o", "cat")
    assert set(ends.values()) == {"Success"}, f"{ends}\n{output}"
    assert api.state(run) == "Success"


def _register_wide(machine: Machine, api: Api) -> str:
    machine.write("/srv/wide_flow.py", Path(__file__).with_name("wide_flow.py").read_text())
    variables = [f"{name}={value}" for name, value in real_flows.environment(api.url, FLOWS_HOME).items()]
    words = ["env", *variables, machine.flows_python, "/srv/wide_flow.py", "prod1"]
    flow_id = machine.run(words, timeout_seconds=120).stdout.split()[-1]
    machine.run(["chmod", "-R", "a+rX", FLOWS_HOME])
    return flow_id
