"""What /proc tells of processes and of the machine. How its files about processes are parsed is in `proc`."""

from __future__ import annotations

import errno
import functools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import ExhaustedError
from local_agent.linux import proc
from local_agent.model import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC = Path("/proc")
# EACCES, EPERM: a /proc that is mounted with hidepid=1 shows nobody else's
_NO_SUCH_PROCESS = frozenset({errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM})


@functools.cache  # no process sees another one
def boot_id() -> str:
    """Return the id of this boot of the machine."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def identity_of(pid: int) -> ProcessIdentity | None:
    """Return the identity of a process, None where there is no such process or it is a zombie.

    Raise ExhaustedError where /proc cannot be asked now: no descriptor to read it by is no sign that it has ended.
    """
    stat = proc.stat_in(_read(pid, "stat"))
    return ProcessIdentity(pid, stat.start_ticks, boot_id()) if stat and not stat.is_gone else None


def is_gone(error: OSError) -> bool:
    """Tell whether a look into /proc failed because there is no such process, or none that this user may see."""
    return error.errno in _NO_SUCH_PROCESS


def pids() -> Iterator[int]:
    """Return every process that there is now."""
    return (int(name) for name in os.listdir(_PROC) if name.isdigit())  # noqa: PTH208 - numbers, not paths


def command_of(pid: int, most_bytes: int) -> tuple[str, ...]:
    """Return the beginning of a process's command line, word by word; none where it is gone or has none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:  # noqa: PTH123 - one of thousands
            text = file.read(most_bytes)
    except OSError:
        return ()
    return tuple(word.decode(errors="surrogateescape") for word in text.split(b"\0"))


def owner_of(pid: int) -> int | None:
    """Return whose a process is, None where it is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116 - as above
    except OSError:
        return None


def parent_of(pid: int) -> int | None:
    """Return a process's parent, None where it is gone. Raise ExhaustedError where /proc cannot be asked now."""
    stat = proc.stat_in(_read(pid, "stat"))
    return stat.parent if stat else None


def children_of(pid: int) -> tuple[int, ...]:
    """Return what a process has started by its first thread and not waited for yet. Raise ExhaustedError as above."""
    return tuple(int(word) for word in _read(pid, f"task/{pid}/children").split())


def age_seconds(pid: int) -> float | None:
    """Return how long ago a process began, a suspended machine's time included. None if it is gone.

    Raise ExhaustedError where /proc cannot be asked now.
    """
    stat = proc.stat_in(_read(pid, "stat"))
    if stat is None:
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - stat.start_ticks / os.sysconf("SC_CLK_TCK")


def is_alive(identity: ProcessIdentity) -> bool:
    """Tell whether exactly this process still runs."""
    return identity_of(identity.pid) == identity


def cgroup_of(pid: int) -> str:
    """Return the path of a process's cgroup below the unified hierarchy's root, "" where it has none or is gone.

    Raise ExhaustedError where /proc cannot be asked now.
    """
    return proc.cgroup_in(_read(pid, "cgroup"))


def _read(pid: int, name: str) -> bytes:
    try:
        return proc.read(f"/proc/{pid}/{name}")
    except OSError as error:
        if is_gone(error):
            return b""
        raise ExhaustedError(f"cannot look at process {pid}: {error.strerror}") from error


def available_memory_bytes() -> int | None:
    """Return MemAvailable, None where the kernel does not say."""
    lines = _machines("meminfo").split(b"\n")
    sizes = (line.split()[1] for line in lines if line.startswith(b"MemAvailable:"))
    return next((int(kib) * 1024 for kib in sizes), None)


def pressure_percent(resource: str) -> float | None:
    """Return how much of the last 10 s some task waited for `resource` (cpu, memory, io), None without PSI."""
    first = _machines(f"pressure/{resource}").partition(b"\n")[0]
    if not first:
        return None
    figures = dict(part.partition(b"=")[::2] for part in first.split()[1:])
    return float(figures.get(b"avg10", b"0"))


def _machines(name: str) -> bytes:
    try:
        return proc.read(f"/proc/{name}")
    except OSError:
        return b""
