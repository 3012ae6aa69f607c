"""What the kernel lets this agent hold at once: descriptors, and the tasks (processes and threads) of flow runs."""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import ConfigError
from local_agent.linux.procfs import cgroup_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# a live flow run holds its pidfd and perhaps its output's file; while it is launched also its gate and its stream
_DESCRIPTORS_A_RUN = 4
# for what every end needs, however many runs live: the API's connections, the bus, the disk, files looked at, a client
_RESERVED_DESCRIPTORS = 64
_MAX_CLAIMS_AT_ONCE = 100
# a flow run begins as a shim, an interpreter, and a few threads or processes of Prefect's
_TASKS_A_RUN = 8
_RESERVED_TASKS = 32
_PROC = Path("/proc")
_CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


@dataclass(frozen=True, slots=True)
class Descriptors:
    """How many files this process may have open: `most` itself, `given_on` (soft, hard) its flow runs."""

    most: int
    given_on: tuple[int, int]

    @property
    def claims_at_once(self) -> int:
        """How many records of claims may be open at the same time."""
        return max(1, min(_MAX_CLAIMS_AT_ONCE, self.most // 8))

    @property
    def live_runs(self) -> int:
        """How many flow runs may live at once, with what is kept for telling their ends put aside."""
        return (self.most - _RESERVED_DESCRIPTORS - self.claims_at_once) // _DESCRIPTORS_A_RUN

    def shortage(self) -> str:
        """Return why no further flow run can be taken, as things are now, "" where one can be."""
        most = min(self.most, _soft_limit())  # prlimit(1) may have lowered it
        free = most - _count_open()
        least = _RESERVED_DESCRIPTORS // 2 + _DESCRIPTORS_A_RUN
        return f"only {free} of {most} files may still be opened (at least {least})" if free < least else ""


def raise_descriptors() -> Descriptors:
    """Raise the soft limit of open files to the hard one, which costs nothing; programs that use select(2) it may hurt.

    So flow runs are given the old one back. Raise ConfigError where not even one flow run could be held.
    """
    given_on = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = given_on
    most = _most_files() if hard == resource.RLIM_INFINITY else hard
    with contextlib.suppress(OSError, ValueError):  # a kernel that says no leaves the soft one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    descriptors = Descriptors(soft, given_on)
    if descriptors.live_runs < 1:
        raise ConfigError(
            f"only {soft} files may be open at once (RLIMIT_NOFILE), too few for one flow run",
            hint="raise the hard limit to 256 or more: LimitNOFILE= in the unit, `ulimit -Hn` in a shell",
        )
    return descriptors


def shortage_of_tasks(uid: int) -> str:
    """Return why no further flow run can be started: too few processes and threads are left; "" where enough are.

    `uid` is whose processes count against RLIMIT_NPROC. What cannot be read does not limit.
    """
    least = _RESERVED_TASKS + _TASKS_A_RUN
    for free, what in _tasks_free(uid):
        if free < least:
            return f"only {max(0, free)} processes or threads may still be started ({what}; at least {least})"
    return ""


def _tasks_free(uid: int) -> Iterator[tuple[int, str]]:
    here = _count_tasks()
    for name in ("threads-max", "pid_max"):
        most = _number(_PROC / "sys/kernel" / name)
        if most is not None and here is not None:
            yield most - here, f"kernel.{name}"
    yield from _tasks_free_in_cgroups(cgroup_of(os.getpid()))
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if uid != 0 and soft != resource.RLIM_INFINITY:
        # all tasks of the machine are an upper bound of the user's, and cost one read
        if here is None or soft - here < _RESERVED_TASKS + _TASKS_A_RUN:
            here = _count_tasks_of(uid)
        yield soft - here, "RLIMIT_NPROC, LimitNPROC= in the unit"


def _tasks_free_in_cgroups(path: str) -> Iterator[tuple[int, str]]:
    """Give what each cgroup from the own one up leaves. Shims begin in the agent's, whatever scope they go to."""
    for root in _CGROUPS:
        folder = root / path.strip("/")
        while path and root in folder.parents:
            most, now = _number(folder / "pids.max"), _number(folder / "pids.current")
            if most is not None and now is not None:
                yield most - now, f"TasksMax of {folder.name}"
            folder = folder.parent


def _soft_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _most_files() if soft == resource.RLIM_INFINITY else soft


def _count_open() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, not paths


def _count_tasks() -> int | None:
    """Return how many tasks the machine has: the second figure in `1/273` of /proc/loadavg (proc(5))."""
    try:
        return int((_PROC / "loadavg").read_text().split()[3].partition("/")[2])
    except (OSError, IndexError, ValueError):
        return None


def _count_tasks_of(uid: int) -> int:
    return sum(_count_threads(entry.path) for entry in os.scandir(_PROC) if entry.name.isdigit() and _is_of(entry, uid))


def _is_of(entry: os.DirEntry[str], uid: int) -> bool:
    try:
        return entry.stat().st_uid == uid
    except OSError:
        return False


def _count_threads(folder: str) -> int:
    try:
        return len(os.listdir(f"{folder}/task"))  # noqa: PTH208 - numbers, not paths
    except OSError:
        return 0


def _most_files() -> int:
    return _number(_PROC / "sys/fs/nr_open") or 1 << 20


def _number(path: Path) -> int | None:
    """Return the number in a file, None where there is none: no such file, or `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
