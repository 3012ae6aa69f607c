"""A cgroup of its own for each machine that the tests boot: two PID 1s in one tree kill each other's services."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_END_SECONDS = 20.0


def unified_hierarchy() -> Path:
    """Return where cgroup v2 is mounted here: beside v1, or alone."""
    beside = Path("/sys/fs/cgroup/unified")
    return beside if (beside / "cgroup.procs").exists() else Path("/sys/fs/cgroup")


def systemd_runs_here() -> bool:
    """Return whether this machine's PID 1 is systemd, which then gives cgroups out itself."""
    return Path("/run/systemd/system").is_dir()


def remove_cgroup(name: str) -> None:
    """Given a machine's name, end every process in its cgroup and remove the whole tree, if it is there."""
    top = unified_hierarchy() / name
    if not top.is_dir():
        return
    (top / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + _END_SECONDS
    while top.is_dir():
        _remove_empty(top)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{top} still holds processes: {(top / 'cgroup.procs').read_text()}")
        time.sleep(0.01)


def _remove_empty(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):  # its processes are still ending
            Path(folder).rmdir()
