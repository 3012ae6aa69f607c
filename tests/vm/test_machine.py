"""What only a kernel of its own can show: out of memory, pressure, a reboot, a power cut.

Booting takes most of the time, so the tests share a machine; the last one cuts its power.
"""

from __future__ import annotations

import pytest

from support.api import Api
from support.vm import Vm

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

_ENOUGH_SECONDS = 240.0


def _new_run(api: Api, what: str, **env: str) -> str:
    flow = api.create_flow(what, labels=["prod1"])
    config = {"type": "LocalRun", "env": {"STUB": what, **env}, "labels": ["prod1"], "__version__": "1.4.1"}
    return api.create_flow_run(flow, run_config=config)


def _lives(vm: Vm, run: str) -> bool:
    return vm.run(f"systemctl is-active flow-run-{run}.scope", check=False) == "active"


def _running(vm: Vm, api: Api) -> str:
    """Return a flow run whose process lives and whose state at the API is Running, as its process would say."""
    run = _new_run(api, "nap")
    vm.wait_until(lambda: _lives(vm, run))
    api.set_state(run, "Running")
    return run


def _status(vm: Vm) -> str:
    return vm.run("systemctl show -P StatusText local-agent@prod1")


def test_out_of_memory_is_reported_with_the_figures(vm: Vm, api: Api) -> None:
    run = _new_run(api, "hog", LOCAL_AGENT_MEMORY_MAX="120M")
    api.wait_for_state(run, "Failed", seconds=_ENOUGH_SECONDS)
    message = api.states(run)[-1]["message"]
    assert message.startswith("Killed by the kernel: out of memory (peak 1"), message
    assert "120.0 MiB allowed" in message


def test_a_flow_run_may_outlive_a_child_that_is_out_of_memory(vm: Vm, api: Api) -> None:
    vm.write("/etc/local-agent/prod1.toml", 'oom_policy = "continue"\n')
    vm.run("systemctl reload local-agent@prod1")
    run = _new_run(api, "hog-child", LOCAL_AGENT_MEMORY_MAX="120M")
    api.wait_for_state(run, "Failed", seconds=_ENOUGH_SECONDS)
    message = api.states(run)[-1]["message"]
    assert "Exited with code 7" in message, message
    vm.run("rm /etc/local-agent/prod1.toml && systemctl reload local-agent@prod1")


def test_pressure_stops_intake_and_its_end_resumes_it(vm: Vm, api: Api) -> None:
    vm.write("/etc/local-agent/prod1.toml", "pressure_cpu = 40\n")
    vm.run("systemctl reload local-agent@prod1")
    hogs = "for n in 1 2 3 4; do (while :; do :; done) & done; wait"
    vm.run(f"systemd-run --quiet --unit hogs sh -c '{hogs}'")
    vm.wait_until(lambda: "cpu pressure is" in _status(vm))
    run = _new_run(api, "nap")
    polls = api.stats()["operations"]["get_runs_in_queue"]
    vm.wait_until(lambda: api.stats()["operations"]["get_runs_in_queue"] > polls + 2)
    assert api.state(run) == "Scheduled"
    vm.run("systemctl stop hogs.service")
    vm.wait_until(lambda: _lives(vm, run))
    vm.run(f"systemctl stop flow-run-{run}.scope && rm /etc/local-agent/prod1.toml")
    vm.run("systemctl reload local-agent@prod1")
    api.wait_for_state(run, "Cancelled", seconds=_ENOUGH_SECONDS)


# as systemd-coredump does, which the kernel starts for what crashes: it keeps the environment
_DUMP = """\
#!/bin/sh
tr '\\0' '\\n' </proc/$1/environ >/run/dumped-$1
"""


def test_no_program_for_crash_dumps_gets_a_flow_runs_environment(vm: Vm, api: Api) -> None:
    vm.write("/srv/dump", _DUMP, mode="755")
    vm.run("sysctl -q -w kernel.core_pipe_limit=4 kernel.core_pattern='|/srv/dump %P'")
    run = _new_run(api, "crash")
    api.wait_for_state(run, "Failed", seconds=_ENOUGH_SECONDS)
    assert "SIGSEGV" in api.states(run)[-1]["message"]
    assert "dumped" not in vm.run("ls /run")
    # of what has no such limit it gets it
    vm.run("systemd-run --quiet --wait --setenv=THE=KEY python3 -c 'import os; os.abort()'", check=False)
    vm.wait_until(lambda: "THE=KEY" in vm.run("cat /run/dumped-*", check=False))
    vm.run("sysctl -q -w kernel.core_pattern=core; rm /run/dumped-*")


def test_a_power_cut_and_a_reboot_are_reported_as_what_they_were(vm: Vm, api: Api) -> None:
    cut_off = _running(vm, api)
    vm.kill_power()
    assert api.state(cut_off) == "Running"
    vm.boot()
    api.wait_for_state(cut_off, "Failed", seconds=_ENOUGH_SECONDS)
    assert api.states(cut_off)[-1]["message"] == "The machine lost power or crashed"

    rebooted = _running(vm, api)
    vm.run("systemctl reboot", check=False)
    vm.wait_down()
    # nothing of the machine runs any more, so whatever the API knows it was told before
    assert api.state(rebooted) == "Failed"
    assert api.states(rebooted)[-1]["message"] == "The machine was shut down"
