"""An API that asks for a key, and a systemd credential: the flow run gets the key, and nobody else sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support import real_flows
from support.api import Api, wait_until
from support.machine import Machine
from system.agent.conftest import FLOWS_HOME, Instance

pytestmark = [pytest.mark.system, pytest.mark.prefect, pytest.mark.timeout(300)]

_KEY = "key-that-nobody-may-see-0123456789"
_KEY_FILE = "/etc/local-agent/prod1.key"
_CREDENTIAL = f"[Service]\nLoadCredential=api-key:{_KEY_FILE}\n"

# The search has what it looks for in a file that it leaves out: on its own command line it would find it.
_WANTED = "/srv/wanted"
# Prints where that is found, of all that other users can see and all that root's tools print. `look PLACE` tells
# whether it is in what comes from there. /run/credentials is systemd's own place for it, for the agent's user only.
_LOOK_EVERYWHERE = f"""\
look() {{
    if grep -qFf {_WANTED}; then echo "$1"; fi
}}
journalctl --no-pager -o export | look "the journal"
for folder in /proc/[0-9]*; do
    cat "$folder/cmdline" 2>/dev/null | tr '\\0' ' ' | look "a command line"
done
systemctl show --all '*' | look "systemctl show"
systemctl status --all --no-pager --lines=1000 '*' 2>/dev/null | look "systemctl status"
systemctl show-environment | look "systemctl show-environment"
systemctl cat --no-pager 'local-agent*' 'flowruns*' 2>/dev/null | look "unit files"
for folder in /etc /run /var/lib/local-agent /var/log /tmp; do
    find "$folder" -xdev -type f ! -path '/run/credentials/*' ! -path {_KEY_FILE} -print0 |
        xargs -0 cat 2>/dev/null | look "$folder"
done
local-agent config --instance prod1 | look "config"
local-agent config --instance prod1 --json | look "config --json"
local-agent config --api-key-file {_KEY_FILE} | look "config of root"
"""


@pytest.fixture(scope="module")
def api(booted: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An embedded API with a key, in place of the one without."""
    with Api(tmp_path_factory.mktemp("keyed") / "server.db", key=_KEY) as api:
        yield api


@pytest.fixture(scope="module")
def flows(api: Api, booted: Machine) -> Mapping[str, str]:
    """Real flows, registered with the key as on Cloud."""
    script = "/srv/real_flows.py"
    booted.write(script, Path(real_flows.__file__).read_text())
    cloud = {"PREFECT__BACKEND": "cloud", "PREFECT__CLOUD__API": api.url, "PREFECT__CLOUD__API_KEY": _KEY}
    variables = [f"{name}={value}" for name, value in {**real_flows.environment(api.url, FLOWS_HOME), **cloud}.items()]
    done = booted.run(["env", *variables, booted.flows_python, script, "prod1"], timeout_seconds=120)
    booted.run(["chmod", "-R", "a+rX", FLOWS_HOME])
    return real_flows.registered(done.stdout)


def _look_everywhere(machine: Machine, wanted: str) -> set[str]:
    machine.write(_WANTED, f"{wanted}\n")
    return set(machine.run(_LOOK_EVERYWHERE, timeout_seconds=120).stdout.splitlines())


def _pids_with(machine: Machine, wanted: str) -> set[str]:
    """Return the processes that have something in their environment."""
    machine.write(_WANTED, f"{wanted}\n")
    found = machine.run(f"grep -lFf {_WANTED} /proc/[0-9]*/environ", check=False).stdout
    return {path.split("/")[2] for path in found.splitlines()}


def test_only_the_flow_run_gets_the_key(
    instance: Instance, machine: Machine, api: Api, flows: Mapping[str, str]
) -> None:
    machine.write(_KEY_FILE, f"{_KEY}\n", mode=0o600)
    instance.drop_in(_CREDENTIAL)
    instance.start()
    run = api.create_flow_run(flows["nap"], parameters={"seconds": 600})
    api.wait_for_state(run, "Running")
    wait_until(lambda: any("Submitted for execution" in line for line in api.messages(run)), instance.journal)

    cgroup = machine.run(["systemctl", "show", f"flow-run-{run}.scope", "-PControlGroup"]).stdout.strip()
    in_scope = set(machine.read(f"/sys/fs/cgroup{cgroup}/cgroup.procs").split())
    holders = _pids_with(machine, _KEY)
    assert holders, "it is in the environment of the flow run, as Prefect wants it"
    assert holders < in_scope, "and in no other: its shim has an environment of its own"
    # what is looked for is found by this search where it is there: a flow run's id is no secret
    assert _look_everywhere(machine, run) >= {
        "the journal",
        "systemctl show",
        "systemctl status",
        "/var/lib/local-agent",
    }
    assert _look_everywhere(machine, _KEY_FILE) >= {"unit files", "/etc", "config of root"}
    assert _look_everywhere(machine, api.url) >= {"config", "config --json"}
    assert _look_everywhere(machine, _KEY) == set()

    api.cancel(run)
    api.wait_for_state(run, "Cancelled")
    assert _KEY not in str(api.logs(run)) + str(api.states(run))
    machine.run(["systemctl", "stop", instance.unit])
    assert _look_everywhere(machine, _KEY) == set()


def test_an_encrypted_credential_is_a_key_too(instance: Instance, machine: Machine, api: Api) -> None:
    """What lies on the disk is of use to nobody without this host's own secret."""
    encrypted = "/etc/local-agent/prod1.cred"
    encrypt = ["systemd-creds", "encrypt", "--with-key=host", "--name=api-key", "-", encrypted]
    machine.run("mkdir -p /etc/local-agent && systemd-creds setup")
    machine.run(encrypt, stdin=_KEY)
    instance.drop_in(f"[Service]\nLoadCredentialEncrypted=api-key:{encrypted}\n")
    instance.start()
    wait_until(lambda: "Registered at" in instance.journal("-o", "cat"), instance.journal)


def test_a_wrong_key_is_said_and_not_tried_again(instance: Instance, machine: Machine, api: Api) -> None:
    machine.write(_KEY_FILE, "a-wrong-key\n", mode=0o600)
    instance.drop_in(_CREDENTIAL)
    machine.run(["systemctl", "start", instance.unit], check=False)
    wait_until(lambda: instance.show("ActiveState")["ActiveState"] == "failed", instance.journal)
    assert instance.show("ExecMainStatus", "NRestarts") == {"ExecMainStatus": "77", "NRestarts": "0"}
    journal = instance.journal("-o", "cat")
    assert f"error: the API at {api.url} does not accept the API key" in journal
    assert "hint: check the key" in journal
    assert "Traceback" not in journal
    assert "a-wrong-key" not in machine.journal("-o", "export")
