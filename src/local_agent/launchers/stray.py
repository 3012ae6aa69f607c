"""A shim that is outside of its scope, and so outside of its limits."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from local_agent.linux import procfs

if TYPE_CHECKING:
    from local_agent.model import ProcessIdentity


def place_outside(identity: ProcessIdentity, unit: str) -> str:
    """Return the cgroup of a process that lives and is not in its scope, "" where all is well or it has ended.

    Raise ExhaustedError where /proc cannot be asked now.
    """
    if not unit or not procfs.is_alive(identity):
        return ""
    where = procfs.cgroup_of(identity.pid)
    # looked at again: a process that ends meanwhile leaves its pid to others
    return where if where and unit not in where.split("/") and procfs.is_alive(identity) else ""


def end_session(identity: ProcessIdentity) -> None:
    """Kill a shim and its process group. It leads its session, so that its number is nobody else's while it lives."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(identity.pid)
        try:
            if procfs.is_alive(identity):
                os.killpg(identity.pid, signal.SIGKILL)
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
