"""The scopes of flow runs, as systemd and the cgroups' files show them to any user."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local_agent.host.reading.bus import Wanted
from local_agent.linux import cgroup
from local_agent.units.names import SCOPES, flow_run_in, instance_of, names_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from local_agent.host.reading.bus import Unit, UnitReader

_ALL_RUNS = "flowruns.slice"
_USEC = 1_000_000


@dataclass(frozen=True, slots=True)
class Scope:
    """A loaded scope of a flow run. `folder` is its cgroup's, None where it has none any more."""

    flow_run_id: str
    unit: str
    name: str
    flow_name: str
    instance: str
    active_state: str
    result: str
    since: datetime | None
    folder: Path | None


def read_scopes(reader: UnitReader, root: Path = cgroup.ROOT) -> list[Scope]:
    """Given one of systemd's managers, return its scopes of flow runs. Raise ManagerUnreachableError."""
    units = reader.list_units([SCOPES, _ALL_RUNS])
    scopes = [unit for unit in units if flow_run_in(unit.name)]
    if not scopes:
        return []
    folders = _folders(reader, [unit for unit in units if unit.name == _ALL_RUNS], root)
    times = reader.read([Wanted(unit.path, "Unit", "ActiveEnterTimestamp") for unit in scopes])
    without = [unit for unit in scopes if unit.name not in folders]
    slices = reader.read([Wanted(unit.path, "Scope", "Slice") for unit in without])
    results = reader.read([Wanted(unit.path, "Scope", "Result") for unit in without])
    ended = {unit.name: pair for unit, *pair in zip(without, slices, results, strict=True)}
    return [_scope(unit, time, folders.get(unit.name), ended) for unit, time in zip(scopes, times, strict=True)]


def scan_scopes(root: Path = cgroup.ROOT) -> list[Scope]:
    """Return what the cgroups' files alone show of the system's scopes, for when systemd does not answer."""
    folders = _below(root / _ALL_RUNS)
    return [
        Scope(flow_run_in(unit), unit, "", "", instance_of(folder.parent.name), "active", "", None, folder)
        for unit, folder in folders.items()
        if flow_run_in(unit)
    ]


def _folders(reader: UnitReader, slices: Sequence[Unit], root: Path) -> dict[str, Path]:
    """Return the cgroup's folder of each scope that has one, by the scope's name."""
    (path,) = reader.read([Wanted(unit.path, "Slice", "ControlGroup") for unit in slices]) or [""]
    return _below(root / str(path).removeprefix("/")) if path else {}


def _below(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.glob("*.slice/*.scope")}


def _scope(unit: Unit, time: object, folder: Path | None, ended: dict[str, list[Any]]) -> Scope:
    slice_name, result = ended.get(unit.name, ["", ""])
    name, flow_name = names_in(unit.description)
    return Scope(
        flow_run_id=flow_run_in(unit.name),
        unit=unit.name,
        name=name,
        flow_name=flow_name,
        instance=instance_of(folder.parent.name if folder else str(slice_name or "")),
        active_state=unit.active_state,
        result=str(result or ""),
        since=moment(time),
        folder=folder,
    )


def moment(usec: object) -> datetime | None:
    """Given one of systemd's timestamps, return it; None where it is not set."""
    return datetime.fromtimestamp(usec / _USEC, UTC) if isinstance(usec, int) and usec else None
