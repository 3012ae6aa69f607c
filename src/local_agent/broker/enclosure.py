"""Whether a scope holds what it should: the process that was looked at, and no stranger."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.broker.protocol import Code, RefusedError
from local_agent.linux import proc
from local_agent.units.names import is_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local_agent.broker.callers import Process

_CGROUPS = Path("/sys/fs/cgroup")


def check_enclosed(process: Process, unit: str) -> str:
    """Return the scope's cgroup. Raise RefusedError unless the very process that was looked at is in it now.

    Where only a pid could be named, it may have become a stranger's meanwhile; so the scope is not stopped.
    """
    cgroup = process.cgroup()
    if not is_in(cgroup, unit):
        raise RefusedError(
            Code.PROCESS_GONE,
            f"process {process.pid} ended while it was moved into {unit}; look at what is in there before stopping it",
        )
    return cgroup


def check_own(cgroup: str, unit: str, uid: int, root: Path = _CGROUPS) -> None:
    """Given a scope's cgroup and the caller's user, raise RefusedError where it holds a process of nobody of that name.

    A program that is setuid has its caller's real user still, and is no stranger.
    """
    try:
        strangers = _strangers_in(root / cgroup.lstrip("/"), uid) if cgroup else iter(())
        pid = next(strangers, 0)
    except OSError as error:
        raise RefusedError(Code.NOT_YOURS, f"it cannot be seen whose processes {unit} holds: {error}") from error
    if pid:
        raise RefusedError(
            Code.NOT_YOURS,
            f"{unit} holds process {pid} of another user, taken in by mistake: it is left alone while that lives",
        )


def _strangers_in(folder: Path, uid: int) -> Iterator[int]:
    for pid in _pids_in(folder):
        status = proc.read(f"/proc/{pid}/status")
        if status and uid not in proc.uids_in(status):  # without one it has ended
            yield pid


def _pids_in(folder: Path) -> Iterator[int]:
    """Return the processes of a cgroup and of those below it; none where it is gone."""
    for below, _, _ in os.walk(folder):
        for word in proc.read(f"{below}/cgroup.procs").split():
            yield int(word)
