"""Names of units, compared with systemd's own where it is installed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from local_agent.systemd import names

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
