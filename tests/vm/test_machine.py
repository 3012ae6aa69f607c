"""What only a kernel of its own can show: out of memory, pressure, a reboot, a power cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api import Api
from support.vm import HOST, Vm, make_disk

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

_STUB = """\
#!/bin/sh
if [ "$1" = -c ]; then echo 1.4.1; exit 0; fi
case $STUB in
    hog) exec python3 -c 'x = bytearray(400 << 20); import time; time.sleep(600)' ;;
    nap) exec sleep 600 ;;
esac
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The embedded API, outside."""
    with Api(tmp_path_factory.mktemp("api") / "server.db") as api:
        yield api


@pytest.fixture(scope="module")
def disk(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a machine's disk, on which an instance prod1 is enabled, whose interpreter is a stub."""
    folder = tmp_path_factory.mktemp("vm")
    make_disk(folder)
    with Vm(folder) as vm:
        port = api.url.rpartition(":")[2]
        vm.run("systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload")
        vm.write("/opt/stub", _STUB, "755")
        vm.write("/etc/local-agent/agent.toml", f'api = "http://{HOST}:{port}"\npython = "/opt/stub"\n')
        vm.run("systemctl enable local-agent-broker.socket local-agent.target local-agent@prod1 && sync")
    return folder


@pytest.fixture
def vm(disk: Path) -> Iterator[Vm]:
    """The machine, switched on for one test."""
    with Vm(disk) as vm:
        vm.wait_until(lambda: "API answered" in _status(vm))
        yield vm


def _new_run(api: Api, what: str, **env: str) -> str:
    flow = api.create_flow(what, labels=["prod1"])
    config = {"type": "LocalRun", "env": {"STUB": what, **env}, "labels": ["prod1"], "__version__": "1.4.1"}
    return api.create_flow_run(flow, run_config=config)


def _running(vm: Vm, api: Api, what: str) -> str:
    """Return a flow run whose process lives and whose state at the API is Running, as its process would say."""
    run = _new_run(api, what)
    vm.wait_until(lambda: vm.run(f"systemctl is-active flow-run-{run}.scope", check=False) == "active")
    api.set_state(run, "Running")
    return run


def _status(vm: Vm) -> str:
    return vm.run("systemctl show -P StatusText local-agent@prod1")


def test_out_of_memory_is_reported_with_the_figures(vm: Vm, api: Api) -> None:
    run = _new_run(api, "hog", LOCAL_AGENT_MEMORY_MAX="120M")
    api.wait_for_state(run, "Failed", seconds=240)
    message = api.states(run)[-1]["message"]
    assert message.startswith("Killed by the kernel: out of memory (peak 1"), message
    assert "120.0 MiB allowed" in message


def test_pressure_stops_intake_and_its_end_resumes_it(vm: Vm, api: Api) -> None:
    vm.write("/run/prod1.toml", "pressure_cpu = 40\n")
    vm.run("cp /run/prod1.toml /etc/local-agent/ && systemctl reload local-agent@prod1")
    hogs = "for n in 1 2 3 4 5 6; do (while :; do :; done) & done; wait"
    vm.run(f"systemd-run --quiet --unit hogs sh -c '{hogs}'")
    vm.wait_until(lambda: "cpu pressure is" in _status(vm))
    run = _new_run(api, "nap")
    polls = api.stats()["operations"]["get_runs_in_queue"]
    vm.wait_until(lambda: api.stats()["operations"]["get_runs_in_queue"] > polls + 2)
    assert api.state(run) == "Scheduled"
    vm.run("systemctl stop hogs.service")
    vm.wait_until(lambda: vm.run(f"systemctl is-active flow-run-{run}.scope", check=False) == "active")
    vm.run(f"systemctl stop flow-run-{run}.scope")
    api.wait_for_state(run, "Cancelled", seconds=120)
    vm.run("rm /etc/local-agent/prod1.toml && sync")


def test_a_reboot_is_reported_before_the_machine_is_down(vm: Vm, api: Api) -> None:
    run = _running(vm, api, "nap")
    vm.run("systemctl reboot", check=False)
    vm.wait_down()
    assert api.state(run) == "Failed"
    assert api.states(run)[-1]["message"] == "The machine was shut down"


def test_a_power_cut_is_reported_after_the_next_boot(vm: Vm, disk: Path, api: Api) -> None:
    run = _running(vm, api, "nap")
    vm.kill_power()
    assert api.state(run) == "Running"
    with Vm(disk):
        api.wait_for_state(run, "Failed", seconds=240)
    assert api.states(run)[-1]["message"] == "The machine lost power or crashed"
