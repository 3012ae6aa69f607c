"""Names of units, compared with systemd's own where it is installed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from local_agent.units import names

VALID = ["prod1", "prod-1", "a.b:c_d", ".hidden", "-", "a" * 64, "X.service", "9"]
TEMPLATE = "/system.slice/system-local\\x2dagent.slice"
_INSTANCES = ["prod1", "prod-1", "a.b", ".hidden", "a:b_c", "-", "--", "Ä", "x" * 64]


def test_units_of_a_run_and_of_an_instance() -> None:
    assert names.scope_of("0e5a8f5c-3a55") == "flow-run-0e5a8f5c-3a55.scope"
    assert names.identifier_of("0e5a8f5c-3a55") == "flow-run-0e5a8f5c-3a55"
    assert names.service_of("prod-1") == "local-agent@prod-1.service"


@pytest.mark.parametrize(
    ("instance", "slice_name"),
    [
        ("prod1", "flowruns-prod1.slice"),
        ("prod-1", r"flowruns-prod\x2d1.slice"),
        ("a.b:c_d", "flowruns-a.b:c_d.slice"),
        (".x", r"flowruns-\x2ex.slice"),
    ],
)
def test_only_slices_escape_the_instance(instance: str, slice_name: str) -> None:
    assert names.slice_of(instance) == slice_name


def test_escaping_is_systemds_own() -> None:
    assert shutil.which("systemd-escape"), "systemd-escape is part of systemd"
    result = subprocess.run(["systemd-escape", "--", *_INSTANCES], capture_output=True, text=True, check=True)
    assert [names.escaped(instance) for instance in _INSTANCES] == result.stdout.split()


@pytest.mark.parametrize("instance", VALID)
def test_an_instance_is_read_back_from_its_slice(instance: str) -> None:
    assert names.instance_of(names.slice_of(instance)) == instance
    assert names.instance_of("system.slice") == ""
    assert names.flow_run_of(names.scope_of("c0ffee")) == "c0ffee"


@pytest.mark.parametrize("instance", VALID)
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


@pytest.mark.parametrize(
    ("name", "flow"),
    [("calm-otter", "etl"), ("calm-otter", "of the day"), ("", ""), ("two\nlines", "x"), ("a", "b of c")],
)
def test_a_scopes_description_tells_the_names(name: str, flow: str) -> None:
    assert names.names_in(names.described(name, flow)) == (name, flow)


def test_of_a_description_that_was_cut_off_the_beginning_is_known() -> None:
    assert names.names_in(names.description_of(names.described("x" * 300, "etl"))) == ("x" * 191, "")
    assert names.names_in("some scope of an admin") == ("", "")


def test_a_scope_is_a_flow_runs_or_nobodys() -> None:
    run = "0e5a8f5c-3a55-4bd4-9c6c-1f0b8b1d6a11"
    assert names.flow_run_in(names.scope_of(run)) == run
    strangers = [run, f"flow-run-{run}", f"x-flow-run-{run}.scope", f"flow-run-{run}.scope\n", "flow-run-x.scope", ""]
    assert [names.flow_run_in(unit) for unit in [*strangers, names.scope_of(names.new_id_of_nobody())]] == [""] * 7
    assert names.is_flow_run_id(run)
    assert not any(map(names.is_flow_run_id, ["", run.upper(), f"{run}\n", f"../{run}"]))


def test_an_instance_is_known_by_its_service() -> None:
    assert names.instance_served_by(names.service_of("prod-1")) == "prod-1"
    assert [names.instance_served_by(unit) for unit in ("local-agent@.service", "x.service", "")] == ["", "", ""]
    assert all(map(names.is_instance, VALID))
    assert not any(map(names.is_instance, ["", "a b", "a\n", "Ä", "../x", "a" * 65]))
