"""An end, in sentences that a person can use."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from local_agent.model import Cause

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_agent.model import Cost, End

_STEPS = (("d", 86400), ("h", 3600), ("min", 60))


def sentence(end: End) -> str:
    """Say how the process ended, without a full stop."""
    return _SENTENCES[end.cause](end)


def cost_sentence(cost: Cost) -> str:
    """Say what the run used; "" where nothing was counted."""
    parts = [
        f"{cost.cpu_seconds:.1f} s of CPU" if cost.cpu_seconds is not None else "",
        f"{in_bytes(cost.memory_peak_bytes)} of memory at its peak" if cost.memory_peak_bytes else "",
        f"{in_bytes(cost.read_bytes)} read" if cost.read_bytes else "",
        f"{in_bytes(cost.written_bytes)} written" if cost.written_bytes else "",
    ]
    return ", ".join(part for part in parts if part)


def end_fields(end: End) -> dict[str, object]:
    """Return an end as fields of an event; None for what is not known."""
    cost = end.cost
    return {
        "cause": end.cause.value,
        "exit_code": end.exit_code,
        "signal": end.signal,
        "cpu_seconds": cost.cpu_seconds,
        "memory_peak_bytes": cost.memory_peak_bytes,
        "read_bytes": cost.read_bytes,
        "written_bytes": cost.written_bytes,
        "oom_kills": cost.oom_kills or None,
    }


def in_bytes(count: int | None) -> str:
    """Say a number of bytes as people do: 3.9 GiB."""
    size = float(count or 0)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def in_time(seconds: float) -> str:
    """Say a time span as systemd does: 1h 30min, 45s."""
    rest, parts = round(seconds), []
    for unit, length in _STEPS:
        if rest >= length:
            parts.append(f"{rest // length}{unit}")
            rest %= length
    if rest or not parts:
        parts.append(f"{rest}s")
    return " ".join(parts)


def ahead_of(seconds: float) -> str:
    """Say how far one clock is ahead of another, or behind it, before the other's name."""
    return f"{in_time(abs(seconds))} {'ahead of' if seconds > 0 else 'behind'}"


def signal_name(number: int | None) -> str:
    """Name a signal: 9 (SIGKILL)."""
    try:
        return f"{number} ({signal.Signals(number or 0).name})"
    except ValueError:
        return str(number)


def _out_of_memory(end: End) -> str:
    allowed = end.limits.memory_max_bytes if end.limits else None
    peak = end.cost.memory_peak_bytes
    figures = [f"peak {in_bytes(peak)}"] if peak else []
    figures += [f"{in_bytes(allowed)} allowed"] if allowed else []
    figures += [f"{end.cost.oom_kills} kills"] if end.cost.oom_kills > 1 else []
    return "Killed by the kernel: out of memory" + (f" ({', '.join(figures)})" if figures else "")


def _deadline(end: End) -> str:
    allowed = end.limits.runtime_max_seconds if end.limits else None
    return f"Ran longer than {in_time(allowed)}" if allowed else "Ran longer than it may"


_SENTENCES: dict[Cause, Callable[[End], str]] = {
    Cause.EXITED: lambda end: f"Exited with code {end.exit_code}",
    Cause.SIGNALLED: lambda end: f"Ended by signal {signal_name(end.signal)}",
    Cause.OUT_OF_MEMORY: _out_of_memory,
    Cause.DEADLINE: _deadline,
    Cause.CANCELLED: lambda _: "Cancelled: its process did not end by itself in time and was stopped",
    Cause.STOPPED: lambda _: "Stopped on this host with systemctl",
    Cause.SERVICE_STOPPED: lambda _: "Ended with the agent's service, which was stopped",
    Cause.SHUTDOWN: lambda _: "The machine was shut down",
    Cause.POWER_LOST: lambda _: "The machine lost power or crashed",
    Cause.NEVER_STARTED: lambda _: "Its process was never started",
    Cause.VANISHED: lambda _: "Its process is gone and nothing tells how it ended",
}
