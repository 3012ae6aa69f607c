"""The limits that a caller may ask for, and nothing else: what each may be, and which property of the scope it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Properties = tuple[tuple[str, tuple[str, Any]], ...]

_INFINITY = 2**64 - 1  # systemd's own word for "no limit", and for a weight that is not set
_MOST = 2**62
_USEC = 1_000_000


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: its property, the values it takes, and how they become the property's."""

    property: str
    least: float
    most: int
    to_property: Callable[[float], int] = int
    may_change: bool = True


LIMITS = {
    "memory_max_bytes": Limit("MemoryMax", 1, _MOST),
    "memory_high_bytes": Limit("MemoryHigh", 1, _MOST),
    "cpu_quota_percent": Limit("CPUQuotaPerSecUSec", 1, 1_000_000, lambda percent: int(percent * _USEC / 100)),
    "cpu_weight": Limit("CPUWeight", 1, 10_000),
    "io_weight": Limit("IOWeight", 1, 10_000),
    "tasks_max": Limit("TasksMax", 1, 1 << 22),
    # not a property of a running scope on systemd 252
    "runtime_max_seconds": Limit(
        "RuntimeMaxUSec", 0.001, 10 * 366 * 86_400, lambda seconds: int(seconds * _USEC), may_change=False
    ),
}


def limit_properties(limits: object, *, is_change: bool) -> Properties:
    """Given the `limits` of a message, return the properties. Raise ValueError naming what is wrong.

    `is_change`: for a scope that runs already. There null takes a limit away.
    """
    if not isinstance(limits, dict):
        raise ValueError("limits is an object")  # noqa: TRY004 - wrong data, as below, and not a wrong call
    allowed = [name for name, limit in LIMITS.items() if limit.may_change or not is_change]
    if any(name not in allowed for name in limits):
        raise ValueError(f"limits are {', '.join(allowed)}")
    return tuple(
        pair for name, value in limits.items() for pair in _properties(name, LIMITS[name], value, is_change=is_change)
    )


def _properties(name: str, limit: Limit, value: object, *, is_change: bool) -> Iterator[tuple[str, tuple[str, Any]]]:
    takes_away = value is None and is_change
    if not takes_away and not _fits(limit, value):
        raise ValueError(f"{name} is a number from {limit.least} to {limit.most}")
    number = _INFINITY if takes_away else limit.to_property(value)  # type: ignore[arg-type] # a number: it fits
    yield limit.property, ("t", number)
    if limit.property == "MemoryMax":
        # without it the excess goes to swap and nothing is limited
        yield "MemorySwapMax", ("t", _INFINITY if takes_away else 0)


def _fits(limit: Limit, value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and limit.least <= value <= limit.most
