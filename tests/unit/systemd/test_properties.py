"""The properties of a scope as StartTransientUnit takes them."""

from __future__ import annotations

from dataclasses import replace

from local_agent.limits import Limits
from local_agent.systemd import ScopeRequest
from local_agent.systemd.properties import limit_properties, scope_properties

_REQUEST = ScopeRequest(
    unit="flow-run-1.scope",
    slice="flowruns-prod1.slice",
    pid=42,
    description="Flow run calm-otter of etl",
    after="local-agent@prod1.service",
    limits=Limits(),
    stop_seconds=10.5,
)
_MIB = 1024**2


def test_what_every_scope_has() -> None:
    properties = dict(scope_properties(_REQUEST))
    assert properties["Slice"] == ("s", "flowruns-prod1.slice")
    assert properties["PIDs"] == ("au", [42])
    assert properties["TimeoutStopUSec"] == ("t", 10_500_000)
    assert properties["After"] == ("as", ["local-agent@prod1.service"])
    assert {f"{kind}Accounting" for kind in ("CPU", "Memory", "IO", "Tasks")} <= set(properties)
    assert "MemoryMax" not in properties


def test_an_agent_that_is_no_service_is_ordered_behind_nothing() -> None:
    assert "After" not in dict(scope_properties(replace(_REQUEST, after="")))


def test_no_limit_is_no_property() -> None:
    assert list(limit_properties(Limits(nice=5))) == [], "the shim's own nice value is no matter of its scope"


def test_each_limit_in_systemds_units() -> None:
    limits = Limits(
        memory_max_bytes=512 * _MIB,
        memory_high_bytes=256 * _MIB,
        cpu_quota_percent=150,
        cpu_weight=50,
        io_weight=20,
        tasks_max=64,
        runtime_max_seconds=90.5,
    )
    assert dict(limit_properties(limits)) == {
        "MemoryMax": ("t", 512 * _MIB),
        "MemorySwapMax": ("t", 0),
        "MemoryHigh": ("t", 256 * _MIB),
        "CPUQuotaPerSecUSec": ("t", 1_500_000),
        "CPUWeight": ("t", 50),
        "IOWeight": ("t", 20),
        "TasksMax": ("t", 64),
        "RuntimeMaxUSec": ("t", 90_500_000),
    }


def test_limits_reach_the_scope() -> None:
    properties = dict(scope_properties(replace(_REQUEST, limits=Limits(tasks_max=7))))
    assert properties["TasksMax"] == ("t", 7)
