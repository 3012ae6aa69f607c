"""The D-Bus properties of a scope (org.freedesktop.systemd1(5)), as StartTransientUnit takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_agent.systemd.names import description_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local_agent.limits import Limits
    from local_agent.systemd import ScopeRequest

Property = tuple[str, tuple[str, Any]]
_USEC = 1_000_000


def scope_properties(request: ScopeRequest) -> list[Property]:
    """Return everything that makes the scope what was asked for."""
    properties: list[Property] = [
        ("Description", ("s", description_of(request.description))),
        ("Slice", ("s", request.slice)),
        ("PIDs", ("au", [request.pid])),
        ("TimeoutStopUSec", ("t", int(request.stop_seconds * _USEC))),
        # stop: the kernel kills one process, systemd the rest with SIGTERM: the shim lives to write down what happened
        ("OOMPolicy", ("s", request.oom_policy)),
    ]
    properties += [(f"{kind}Accounting", ("b", True)) for kind in ("CPU", "Memory", "IO", "Tasks")]
    if request.after:
        properties.append(("After", ("as", [request.after])))
    return properties + list(limit_properties(request.limits))


def limit_properties(limits: Limits) -> Iterator[Property]:
    """Return the limits that a scope's cgroup enforces."""
    if limits.memory_max_bytes is not None:
        yield "MemoryMax", ("t", limits.memory_max_bytes)
        yield "MemorySwapMax", ("t", 0)  # without it the excess goes to swap and nothing is limited
    if limits.memory_high_bytes is not None:
        yield "MemoryHigh", ("t", limits.memory_high_bytes)
    if limits.cpu_quota_percent is not None:
        yield "CPUQuotaPerSecUSec", ("t", limits.cpu_quota_percent * _USEC // 100)
    if limits.cpu_weight is not None:
        yield "CPUWeight", ("t", limits.cpu_weight)
    if limits.io_weight is not None:
        yield "IOWeight", ("t", limits.io_weight)
    if limits.tasks_max is not None:
        yield "TasksMax", ("t", limits.tasks_max)
    if limits.runtime_max_seconds is not None:
        yield "RuntimeMaxUSec", ("t", int(limits.runtime_max_seconds * _USEC))
