"""A scope for what `doctor` runs of a user's: within the limits of flow runs, and with an end.

Without one it would be in root's own session: outside of every limit, and still there when `doctor` has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from typing import TYPE_CHECKING

from local_agent.errors import ManagerUnreachableError
from local_agent.limits import Limits
from local_agent.linux import procfs
from local_agent.systemd import ScopeRequest
from local_agent.systemd.manager import DBusScopeManager

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from local_agent.systemd import ScopeManager

_ALL_RUNS = "flowruns.slice"
_TASKS = 256
_ENCLOSING_SECONDS = 60.0  # systemd takes seconds where it is busy
_STOP_SECONDS = 5.0


@contextlib.contextmanager
def enclosed(address: str, slice_name: str, seconds: float, pid: int) -> Iterator[None]:
    """Have a process in a scope of the manager at a bus's address; all in it ends with the context.

    It lies in the named slice, "" for that of all flow runs. Should this process be killed, it ends by itself some
    time after `seconds`. Raise ManagerUnreachableError.
    """
    unit = f"local-agent-look-{uuid.uuid4().hex[:8]}.scope"
    limits = Limits(tasks_max=_TASKS, runtime_max_seconds=seconds + _ENCLOSING_SECONDS)
    description = "local-agent doctor looks with the rights of a user"
    request = ScopeRequest(unit, slice_name or _ALL_RUNS, pid, description, "", limits, _STOP_SECONDS)
    _ask(address, lambda manager: manager.start_scope(request))
    if unit not in procfs.cgroup_of(pid):
        raise ManagerUnreachableError(f"systemd says that {unit} is up, but process {pid} is not in it")
    try:
        yield
    finally:
        with contextlib.suppress(ManagerUnreachableError):
            _ask(address, lambda manager: _end(manager, unit))


async def _end(manager: ScopeManager, unit: str) -> None:
    await manager.kill(unit, signal.SIGKILL)
    await manager.stop(unit)
    await manager.reset_failed(unit)


def _ask(address: str, what: Callable[[ScopeManager], Awaitable[None]]) -> None:
    async def ask() -> None:
        manager = DBusScopeManager(address)
        try:
            await what(manager)
        finally:
            await manager.close()

    asyncio.run(ask())
