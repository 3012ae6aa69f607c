"""Where an agent runs that is no packaged instance: its process, its unit, what ends with it, and where its log is.

The unit and where the output goes are the kernel's words; what ends with the unit is the agent's own.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_agent.errors import ExhaustedError
from local_agent.host.reading.found import user_name
from local_agent.launchers.own_service import unit_in
from local_agent.linux import proc, procfs

if TYPE_CHECKING:
    from pathlib import Path

    from local_agent.host.reading.agents import StateFolder

_START_SECONDS = 30.0  # a start takes one; a machine may be busy


@dataclass(frozen=True, slots=True)
class Place:
    """Where an agent runs. `manager` is whose `unit` is: "system", "user", or "" where it is in none of systemd's.

    `ends_with` is `unit` if its stop ends the flow runs, "" where they outlive it; `log` says how to see its log.
    """

    pid: int
    uid: int
    unit: str
    manager: str
    state_dir: Path
    ends_with: str = ""
    log: str = ""
    age_seconds: float | None = None

    @property
    def is_new(self) -> bool:
        """Whether its process began so lately that it need not answer yet: its unit may count as started before."""
        return self.age_seconds is not None and self.age_seconds < _START_SECONDS

    @property
    def user(self) -> str:
        """Whose it is."""
        return user_name(self.uid)

    @property
    def in_words(self) -> str:
        """Say it in a sentence."""
        whose = "the user's own " if self.manager == "user" else ""
        where = f"in {whose}{self.unit}" if self.unit else "in no unit of systemd"
        fate = f"; its flow runs end with {self.ends_with}" if self.ends_with else ""
        return f"runs as {self.user}, process {self.pid} {where}{fate}; its log: {self.log}"


def place_of(folder: StateFolder, pid: int, ends_with: str) -> Place | None:
    """Return where an agent runs, None where it has ended or cannot be looked at."""
    try:
        cgroup = procfs.cgroup_of(pid)
    except ExhaustedError:
        return None
    if not cgroup:
        return None
    unit, is_users = unit_in(cgroup)
    manager = ("user" if is_users else "system") if unit else ""
    return Place(
        pid,
        folder.uid,
        unit,
        manager,
        folder.path,
        ends_with=unit if ends_with == unit else "",  # what an agent says of other units is not its to say
        log=_log_of(pid, unit, manager, folder.uid),
        age_seconds=procfs.age_seconds(pid),
    )


def _log_of(pid: int, unit: str, manager: str, uid: int) -> str:
    """Say where an agent's log goes: where its standard output does, which only root sees."""
    output = _output_of(pid)
    if output.startswith(("/dev/pts/", "/dev/tty")):
        return f"on the terminal {output}"
    if output == os.devnull:
        return f"nowhere, its output goes to {output}"
    if output.startswith("/"):
        return f"tail -f {shlex.quote(output)}"
    if output.startswith("pipe:"):
        return _of_pipe(pid)
    return _of_journal(unit, manager, uid) if unit.endswith(".service") else "where its standard output goes"


def _of_pipe(pid: int) -> str:
    parent = _parent_of(pid)
    if parent == "supervisord":
        return "supervisorctl status names it, supervisorctl tail -f NAME shows it"
    return f"{parent or 'whoever started it'} reads it from a pipe"


def _of_journal(unit: str, manager: str, uid: int) -> str:
    if manager == "system":
        return f"journalctl -u {shlex.quote(unit)}"
    if uid == os.geteuid():
        return f"journalctl --user -u {shlex.quote(unit)}"
    return f"journalctl _UID={uid} _SYSTEMD_USER_UNIT={shlex.quote(unit)}"


def _output_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/fd/1")  # noqa: PTH115 - a descriptor
    return ""


def _parent_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        own = proc.stat_in(proc.read(f"/proc/{pid}/stat"))
        parent = proc.stat_in(proc.read(f"/proc/{own.parent}/stat")) if own else None
        return parent.name if parent else ""
    return ""
