"""What a flow run with a process on this machine is found by again: the handle of the launchers `process` and `scope`.

They share it, so that either can take up what the other has launched: an agent may be started again with another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_agent.errors import StateError
from local_agent.linux import procfs
from local_agent.model import ProcessIdentity

if TYPE_CHECKING:
    from local_agent.model import Handle, Json, Record

_VERSION = 1


@dataclass(frozen=True, slots=True)
class ProcessHandle:
    """The process of a flow run's shim, None where only what it left behind is known, and its scope, "" for none."""

    process: ProcessIdentity | None = None
    unit: str = ""

    @property
    def where(self) -> str:
        """Say for people where it is."""
        pid = f"PID {self.process.pid}" if self.process else ""
        return ", ".join(part for part in (self.unit, pid) if part)

    def as_json(self) -> Handle:
        """Return it as a record holds it."""
        one = self.process
        process: Json = {"pid": one.pid, "start_ticks": one.start_ticks, "boot_id": one.boot_id} if one else None
        return {"version": _VERSION, "process": process, "unit": self.unit}


def handle_in(record: Record) -> ProcessHandle:
    """Return the handle that a record holds; an empty one where nothing was launched yet.

    Raise StateError where it is none: then nothing may be concluded about the flow run.
    """
    try:
        return _parsed(record.handle)
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"the record of {record.label} does not say where it runs ({error!r})") from error


def _parsed(handle: Handle) -> ProcessHandle:
    if not handle:
        return ProcessHandle()
    version, process, unit = handle["version"], handle["process"], handle["unit"]
    if version != _VERSION:
        raise ValueError(f"its handle is of version {version}")
    if not isinstance(unit, str):
        raise TypeError("unit")
    return ProcessHandle(_identity(process) if process is not None else None, unit)


def _identity(process: object) -> ProcessIdentity:
    if not isinstance(process, dict):
        raise TypeError("process")
    pid, start_ticks, boot_id = process["pid"], process["start_ticks"], process["boot_id"]
    if not all(type(number) is int and number > 0 for number in (pid, start_ticks)) or not isinstance(boot_id, str):
        raise TypeError("process")
    return ProcessIdentity(pid, start_ticks, boot_id)


def seems_alive(record: Record) -> bool:
    """Tell, for those who only look on, whether a flow run whose record says running still does.

    Raise ExhaustedError where /proc cannot be asked now, StateError as `handle_in`.
    """
    process = handle_in(record).process
    return process is not None and procfs.is_alive(process)


def cgroup_of(record: Record) -> str:
    """Return, for those who only look on, the cgroup that a flow run's shim is in now, "" where that is gone.

    Raise as `seems_alive`.
    """
    process = handle_in(record).process
    return procfs.cgroup_of(process.pid) if process else ""
