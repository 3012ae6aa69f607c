"""As process 1 of a container the agent inherits every orphan, and reaps it: no tini is needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def reap_orphans(own_pids: Callable[[], set[int]]) -> None:
    """Reap zombies that nobody here waits for. `own_pids` are those that somebody does."""
    own_session = os.getsid(0)
    own = own_pids()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in own:
            _reap_if_orphan(int(entry.name), own_session)


def _reap_if_orphan(pid: int, own_session: int) -> None:
    try:
        fields = (Path("/proc") / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return
    state, parent, session = fields[0], int(fields[1]), int(fields[3])
    # what the agent itself runs for a moment stays in its own session and is waited for where it was started
    if state == "Z" and parent == os.getpid() and session != own_session:
        os.waitpid(pid, os.WNOHANG)
