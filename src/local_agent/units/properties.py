"""The properties of a flow run's scope (org.freedesktop.systemd1(5)), as StartTransientUnit takes them.

`LIMITS` is the one table of what a cgroup limits; its names are the attributes of `limits.Limits`, and what the broker
is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Property = tuple[str, tuple[str, Any]]

_MAX = 2**62
_USEC = 1_000_000


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: its property, the values it takes, and how they become the property's."""

    property: str
    least: float
    most: int
    to_property: Callable[[float], int] = int


LIMITS = {
    "memory_max_bytes": Limit("MemoryMax", 1, _MAX),
    "memory_high_bytes": Limit("MemoryHigh", 1, _MAX),
    "cpu_quota_percent": Limit("CPUQuotaPerSecUSec", 1, 1_000_000, lambda percent: int(percent * _USEC / 100)),
    "cpu_weight": Limit("CPUWeight", 1, 10_000),
    "io_weight": Limit("IOWeight", 1, 10_000),
    "tasks_max": Limit("TasksMax", 1, 1 << 22),
    "runtime_max_seconds": Limit("RuntimeMaxUSec", 0.001, 10 * 366 * 86_400, lambda seconds: int(seconds * _USEC)),
}
# a property of a scope that does not run yet; all other limits can be set later, too [252]
AT_START_ONLY = "RuntimeMaxUSec"


def scope_properties(
    process: Property, description: str, slice_name: str, after: str, stop_seconds: float, oom_policy: str
) -> list[Property]:
    """Return everything that makes a scope what it is but for its limits. `after` may be "", for no unit."""
    properties: list[Property] = [
        process,
        ("Description", ("s", description)),
        ("Slice", ("s", slice_name)),
        ("TimeoutStopUSec", ("t", int(stop_seconds * _USEC))),
        # stop: the kernel kills one process, systemd the rest with SIGTERM: the shim lives to write down what happened
        ("OOMPolicy", ("s", oom_policy)),
        *((f"{kind}Accounting", ("b", True)) for kind in ("CPU", "Memory", "IO", "Tasks")),
    ]
    if after:  # so that at shutdown the scope ends first, and the agent sees and reports it
        properties.append(("After", ("as", [after])))
    return properties


def limit_properties(limits: Mapping[str, float]) -> Iterator[Property]:
    """Given limits that fit, by their names in LIMITS, return what they are of a scope."""
    for name, value in limits.items():
        limit = LIMITS[name]
        yield limit.property, ("t", limit.to_property(value))
        if limit.property == "MemoryMax":
            yield "MemorySwapMax", ("t", 0)  # without it the excess goes to swap and nothing is limited


def checked_limits(limits: object) -> dict[str, float]:
    """Given the limits that a stranger asks for, return them. Raise ValueError naming what is wrong."""
    if not isinstance(limits, dict):
        raise ValueError("limits is an object")  # noqa: TRY004 - wrong data, as below, and not a wrong call
    if any(name not in LIMITS for name in limits):
        raise ValueError(f"limits are {', '.join(LIMITS)}")
    for name, value in limits.items():
        limit = LIMITS[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not limit.least <= value <= limit.most:
            raise ValueError(f"{name} is a number from {limit.least} to {limit.most}")
    return limits
