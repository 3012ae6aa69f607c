"""As process 1 of a container the agent inherits every orphan, and reaps it: no tini is needed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from local_agent.linux import proc

if TYPE_CHECKING:
    from collections.abc import Callable


def reap_orphans(own_pids: Callable[[], set[int]]) -> None:
    """Reap zombies that nobody here waits for. `own_pids` are those that somebody does."""
    own_session = os.getsid(0)
    own = own_pids()
    for name in os.listdir("/proc"):  # noqa: PTH208 - numbers, not paths
        if name.isdecimal() and int(name) not in own:
            _reap_if_orphan(int(name), own_session)


def _reap_if_orphan(pid: int, own_session: int) -> None:
    try:
        stat = proc.stat_in(proc.read(f"/proc/{pid}/stat"))
    except OSError:
        return
    # what the agent itself runs for a moment stays in its own session and is waited for where it was started
    if stat is not None and stat.is_gone and stat.parent == os.getpid() and stat.session != own_session:
        os.waitpid(pid, os.WNOHANG)
