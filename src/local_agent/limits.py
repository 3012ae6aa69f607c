"""What one flow run may use of this machine. Ground floor: standard library only."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one flow run, or their ceilings; None means that there is none."""

    memory_max_bytes: int | None = None
    memory_high_bytes: int | None = None
    cpu_quota_percent: int | None = None
    cpu_weight: int | None = None
    io_weight: int | None = None
    tasks_max: int | None = None
    runtime_max_seconds: float | None = None
    nice: int | None = None

    def in_cgroup(self) -> dict[str, float]:
        """Return those that a cgroup enforces and that are set, by name; the shim itself sets the nice value."""
        return {name: value for name, value in asdict(self).items() if name != "nice" and value is not None}
