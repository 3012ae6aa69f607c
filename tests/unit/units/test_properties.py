"""The properties of a scope as StartTransientUnit takes them, and the one table of limits behind them."""

from __future__ import annotations

from dataclasses import fields

import pytest

from local_agent.limits import Limits
from local_agent.units.properties import LIMITS, checked_limits, limit_properties, scope_properties

_MIB = 1024**2
_PROCESS = ("PIDs", ("au", [42]))
_ALL = Limits(
    memory_max_bytes=512 * _MIB,
    memory_high_bytes=256 * _MIB,
    cpu_quota_percent=150,
    cpu_weight=50,
    io_weight=20,
    tasks_max=64,
    runtime_max_seconds=90.5,
    nice=5,
)


def test_what_every_scope_has() -> None:
    made = scope_properties(_PROCESS, "calm-otter", "flowruns-prod1.slice", "local-agent@prod1.service", 10.5, "stop")
    properties = dict(made)
    assert made[0] == _PROCESS
    assert properties["Description"] == ("s", "calm-otter")
    assert properties["Slice"] == ("s", "flowruns-prod1.slice")
    assert properties["TimeoutStopUSec"] == ("t", 10_500_000)
    assert properties["OOMPolicy"] == ("s", "stop")
    assert properties["After"] == ("as", ["local-agent@prod1.service"])
    assert {f"{kind}Accounting" for kind in ("CPU", "Memory", "IO", "Tasks")} <= set(properties)
    assert "MemoryMax" not in properties


def test_an_agent_that_is_no_service_is_ordered_behind_nothing() -> None:
    assert "After" not in dict(scope_properties(_PROCESS, "", "flowruns.slice", "", 1.0, "stop"))


def test_the_table_has_every_limit_that_a_cgroup_enforces() -> None:
    """The shim itself sets the nice value."""
    assert set(LIMITS) == {field.name for field in fields(Limits)} - {"nice"} == set(_ALL.in_cgroup())


def test_no_limit_is_no_property() -> None:
    assert Limits(nice=5).in_cgroup() == {}
    assert list(limit_properties({})) == []


def test_each_limit_in_systemds_units() -> None:
    assert dict(limit_properties(_ALL.in_cgroup())) == {
        "MemoryMax": ("t", 512 * _MIB),
        "MemorySwapMax": ("t", 0),
        "MemoryHigh": ("t", 256 * _MIB),
        "CPUQuotaPerSecUSec": ("t", 1_500_000),
        "CPUWeight": ("t", 50),
        "IOWeight": ("t", 20),
        "TasksMax": ("t", 64),
        "RuntimeMaxUSec": ("t", 90_500_000),
    }


def test_what_a_stranger_asks_for_is_checked() -> None:
    assert checked_limits(_ALL.in_cgroup()) == _ALL.in_cgroup()


@pytest.mark.parametrize(
    "limits",
    [
        None,
        [["tasks_max", 3]],
        {"nice": 5},
        {"MemoryMax": 1 << 30},
        {"tasks_max": None},
        {"tasks_max": "infinity"},
        {"tasks_max": True},
        {"tasks_max": 0},
        {"cpu_weight": 1e300},
        {"memory_max_bytes": float("nan")},
        {"memory_max_bytes": 2**64},
    ],
)
def test_nothing_else_becomes_a_property(limits: object) -> None:
    with pytest.raises(ValueError, match=r"limits|number"):
        checked_limits(limits)
