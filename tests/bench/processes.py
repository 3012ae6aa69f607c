"""What processes use, read from /proc: a tree by its root, or everything that carries a mark in its environment."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

_PROC = Path("/proc")
_SCHED = 2  # CPUCLOCK_SCHED: to the nanosecond


def tree(root: int) -> list[int]:
    """Return a process and everything that descends from it."""
    children = defaultdict(list)
    for pid in _pids():
        if fields := _stat(pid):
            children[int(fields[1])].append(pid)
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def pss_bytes(pids: Iterable[int]) -> int:
    """Return the memory of processes, what they share with others in proportion (Pss of smaps_rollup)."""
    return sum(_smaps_bytes(pid, "Pss:") for pid in pids)


def anonymous_bytes(pids: Iterable[int]) -> int:
    """Return the memory that backs no file: what PSS has beside it depends on who else runs the same programs."""
    return sum(_smaps_bytes(pid, "Pss_Anon:") for pid in pids)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that processes have used; to the nanosecond, where /proc/PID/stat has ticks of 10 ms."""
    return sum(_nanoseconds(pid) for pid in pids) / 1e9


def zombies(parent: int) -> int:
    """Return how many children of a process have ended and were not waited for."""
    return sum(1 for pid in _pids() if _stat(pid)[:2] == ["Z", str(parent)])


def marked(mark: str) -> Iterator[int]:
    """Return every process with NAME=VALUE in its environment."""
    wanted = f"{mark}\0".encode()
    for pid in _pids():
        with contextlib.suppress(OSError):
            if wanted in (_PROC / str(pid) / "environ").read_bytes():
                yield pid


def end_marked(mark: str) -> None:
    """Kill every process with NAME=VALUE in its environment, also those that start meanwhile."""
    while pids := list(marked(mark)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir(_PROC) if name.isdigit())  # noqa: PTH208 - names are all we want


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on, none where it is gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _smaps_bytes(pid: int, name: str) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has just ended
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _nanoseconds(pid: int) -> int:
    """Ask the process's own clock, which counts threads that are gone, too; 0 where it is gone itself."""
    clock = (~pid << 3) | _SCHED  # clock_getcpuclockid(3)
    try:
        return time.clock_gettime_ns(clock)
    except OSError:
        return 0
