"""Labels: the hostname label that registering adds, and labels that a reload changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.api import Api, wait_until
from support.machine import Machine
from support.real_flows import environment
from system.agent.conftest import FLOWS_HOME, Instance

pytestmark = [pytest.mark.system, pytest.mark.prefect, pytest.mark.timeout(300)]

_FLOWS = "/srv/documented_flows.py"
_NO_DEFAULT_LABELS = "PREFECT__FLOWS__DEFAULTS__STORAGE__ADD_DEFAULT_LABELS=false"


def _register(machine: Machine, api: Api, *variables: str) -> str:
    """Register example1, whose label is prod1, with Local storage and Prefect's own defaults; return its id."""
    machine.write(_FLOWS, (Path(__file__).parents[1] / "documented_flows.py").read_text())
    known = [f"{name}={value}" for name, value in environment(api.url, FLOWS_HOME).items()]
    command = ["env", *known, *variables, machine.flows_python, _FLOWS, "labels"]
    ids: dict[str, str] = json.loads(machine.run(command, timeout_seconds=120).stdout.splitlines()[-1])
    machine.run(["chmod", "-R", "a+rX", FLOWS_HOME])
    return ids["example1"]


def test_a_run_that_lacks_only_the_hostname_label_is_named(instance: Instance, machine: Machine, api: Api) -> None:
    """It would wait for ever, and nobody would know why: so it is said, once, and the README says what to do."""
    hostname = machine.run("hostname").stdout.strip()
    waits = api.create_flow_run(_register(machine, api))
    assert sorted(api.flow_run(waits, "labels")["labels"]) == sorted(["prod1", hostname])
    instance.start()
    said = f"({waits}) of example1 waits: it has every label of this agent but the hostname label {hostname}"
    wait_until(lambda: said in instance.journal("-o", "cat"), instance.journal)
    assert waits in machine.journal(f"FLOW_RUN_ID={waits}", "-o", "verbose")
    assert api.state(waits) == "Scheduled"

    run = api.create_flow_run(_register(machine, api, _NO_DEFAULT_LABELS))
    assert api.flow_run(run, "labels")["labels"] == ["prod1"]
    api.wait_for_state(run, "Success")
    assert instance.journal("-o", "cat").count(said) == 1


def test_a_reload_takes_new_labels_and_touches_no_flow_run(
    instance: Instance, machine: Machine, api: Api, flows: Mapping[str, str]
) -> None:
    instance.start()
    nap = api.create_flow_run(flows["nap"], parameters={"seconds": 600})
    api.wait_for_state(nap, "Running")
    scope = f"flow-run-{nap}.scope"
    before = machine.run(["systemctl", "show", scope, "-pInvocationID", "-pActiveState"]).stdout

    machine.write("/etc/local-agent/prod1.toml", 'labels = ["b-second", "a-first"]\nhostname_label = false\n')
    machine.run(["systemctl", "reload", instance.unit])
    wait_until(lambda: "Settings read again: labels" in instance.journal("-o", "cat"), instance.journal)
    registered = "with labels ['a-first', 'b-second']"
    wait_until(lambda: registered in instance.journal("-o", "cat"), instance.journal)
    latest = api.graphql("{ agent(order_by: {created: desc}, limit: 1) { name labels } }")["agent"]
    assert latest == [{"name": "prod1", "labels": ["a-first", "b-second"]}]

    old = api.create_flow_run(flows["hello"])
    new = api.create_flow_run(flows["hello"], labels=["a-first"])
    api.wait_for_state(new, "Success")
    assert api.state(old) == "Scheduled"
    assert machine.run(["systemctl", "show", scope, "-pInvocationID", "-pActiveState"]).stdout == before
    assert "ActiveState=active" in before
    assert api.state(nap) == "Running"
