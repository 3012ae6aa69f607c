"""What /proc tells of processes and of the machine (proc(5))."""

from __future__ import annotations

import errno
import functools
from pathlib import Path

from local_agent.errors import ExhaustedError
from local_agent.model import ProcessIdentity

_PROC = Path("/proc")
# EACCES, EPERM: a /proc that is mounted with hidepid=1 shows nobody else's
_NO_SUCH_PROCESS = frozenset({errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM})
_START_TIME_FIELD = 19  # starttime, counted from 0 and from the state on; proc(5) counts it as 22


@functools.cache  # no process sees another one
def boot_id() -> str:
    """Return the id of this boot of the machine."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def identity_of(pid: int) -> ProcessIdentity | None:
    """Return the identity of a process, None where there is no such process or it is a zombie.

    Raise ExhaustedError where /proc cannot be asked now: no descriptor to read it by is no sign that it has ended.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:  # noqa: PTH123 - for each launch: a third of pathlib's cost
            text = stat.read()
    except OSError as error:
        if is_gone(error):
            return None
        raise ExhaustedError(f"cannot look at process {pid}: {error.strerror}") from error
    # the command's name is in parentheses and may hold blanks and parentheses itself
    fields = text[text.rfind(b")") + 1 :].split()
    if len(fields) <= _START_TIME_FIELD or fields[0] in (b"Z", b"X"):
        return None
    return ProcessIdentity(pid, int(fields[_START_TIME_FIELD]), boot_id())


def is_gone(error: OSError) -> bool:
    """Tell whether a look into /proc failed because there is no such process, or none that this user may see."""
    return error.errno in _NO_SUCH_PROCESS


def is_alive(identity: ProcessIdentity) -> bool:
    """Tell whether exactly this process still runs."""
    return identity_of(identity.pid) == identity


def cgroup_of(pid: int) -> str:
    """Return the path of a process's cgroup below the unified hierarchy's root, "" where it has none or is gone.

    Raise ExhaustedError where /proc cannot be asked now.
    """
    try:
        lines = (_PROC / str(pid) / "cgroup").read_text().splitlines()
    except OSError as error:
        if is_gone(error):
            return ""
        raise ExhaustedError(f"cannot look at process {pid}: {error.strerror}") from error
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")


def available_memory_bytes() -> int | None:
    """Return MemAvailable, None where the kernel does not say."""
    try:
        lines = (_PROC / "meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((int(kib) * 1024 for kib in sizes), None)


def pressure_percent(resource: str) -> float | None:
    """Return how much of the last 10 s some task waited for `resource` (cpu, memory, io), None without PSI."""
    try:
        first = (_PROC / "pressure" / resource).read_text().splitlines()[0]
    except (OSError, IndexError):
        return None
    figures = dict(part.partition("=")[::2] for part in first.split()[1:])
    return float(figures.get("avg10", "0"))
