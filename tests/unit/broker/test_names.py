"""The broker's names of units: the same as the agent's, and read from cgroups as systemd reads them."""

from __future__ import annotations

import pytest

from local_agent.broker import names
from local_agent.systemd import names as agents_names

INSTANCES = ["prod1", "prod-1", "a.b:c_d", ".hidden", "-", "a" * 64, "X.service", "9"]
TEMPLATE = "/system.slice/system-local\\x2dagent.slice"


@pytest.mark.parametrize("instance", INSTANCES)
def test_broker_and_agent_agree(instance: str) -> None:
    assert names.slice_of(instance) == agents_names.slice_of(instance)
    assert names.service_of(instance) == agents_names.service_of(instance)
    assert names.scope_of("c0ffee") == agents_names.scope_of("c0ffee")
    assert names.identifier_of("c0ffee") == agents_names.identifier_of("c0ffee")
    assert agents_names.flow_run_of(names.scope_of("c0ffee")) == "c0ffee"


@pytest.mark.parametrize("instance", INSTANCES)
def test_an_agent_is_known_by_its_cgroup(instance: str) -> None:
    assert names.instance_in(f"{TEMPLATE}/local-agent@{instance}.service") == instance
    assert names.instance_in(f"/custom.slice/local-agent@{instance}.service") == instance


@pytest.mark.parametrize(
    "cgroup",
    [
        "",
        "/",
        "/init.scope",
        f"{TEMPLATE}",
        f"{TEMPLATE}/local-agent@prod1.service/inner",
        f"{TEMPLATE}/local-agent@.service",
        f"{TEMPLATE}/local-agent@{'a' * 65}.service",
        f"{TEMPLATE}/local-agent@a b.service",
        f"{TEMPLATE}/local-agent@a\\x2db.service",
        f"{TEMPLATE}/xlocal-agent@prod1.service",
        f"{TEMPLATE}/local-agent@prod1.service\n",
        f"{TEMPLATE}/local-agent@prod1.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/local-agent@prod1.service",
        "/system.slice/other.service/local-agent@prod1.service",
        "/system.slice/other.service/app.slice/local-agent@prod1.service",
        "/flowruns.slice/flowruns-prod1.slice/flow-run-c0ffee.scope",
        "/flowruns.slice/flowruns-prod1.slice/flow-run-c0ffee.scope/local-agent@prod1.service",
    ],
)
def test_nothing_else_is_an_agent(cgroup: str) -> None:
    assert names.instance_in(cgroup) is None


def test_a_scope_is_found_as_a_whole_name() -> None:
    assert names.is_in("/flowruns.slice/flowruns-a.slice/flow-run-1.scope", "flow-run-1.scope")
    assert not names.is_in("/flowruns.slice/flowruns-a.slice/flow-run-11.scope", "flow-run-1.scope")
    assert not names.is_in("", "flow-run-1.scope")
