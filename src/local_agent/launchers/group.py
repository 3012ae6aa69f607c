"""Ending a process group, and no other: its number is a pid, and may be another's once nobody is in the group."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_agent.errors import ExhaustedError
from local_agent.linux import proc
from local_agent.linux.procfs import is_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local_agent.aio.clock import Clock

_LOOK_SECONDS = 0.05
_KILL_SECONDS = 5.0  # what SIGKILL has not ended by then is another user's, or waits for a device that does not answer


@dataclass(frozen=True, slots=True)
class Member:
    """A process of a group, no zombie. `start_ticks` counts from the boot on (proc(5))."""

    pid: int
    start_ticks: int
    name: str


# given the members of a group, tells whether it is certainly still the one that is meant
IsOurs = Callable[[list[Member]], bool]


async def end_group(group: int, is_ours: IsOurs, grace_seconds: float, clock: Clock) -> list[Member]:
    """Send SIGTERM, after the grace SIGKILL, until nobody but zombies is in the group. Return who could not be ended.

    Before each signal `is_ours` is asked, and where it says no nothing is sent any more.
    """
    if not _exists(group):
        return []
    members = members_of(group)
    until = clock.monotonic() + grace_seconds
    number = signal.SIGTERM
    is_told = False
    while members:
        if not is_ours(members):
            return members if is_told else []
        if clock.monotonic() > until + _KILL_SECONDS:
            return members
        if not is_told or clock.monotonic() > until:
            number = signal.SIGKILL if clock.monotonic() > until else number
            _signal(group, number)
            is_told = True
        await clock.sleep(_LOOK_SECONDS)
        members = members_of(group) if _exists(group) else []
    return []


def members_of(group: int) -> list[Member]:
    """Return the processes of a group, zombies excepted. Raise ExhaustedError where /proc cannot be asked now."""
    try:
        pids = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - numbers, not paths
        return list(_members(group, pids))
    except OSError as error:
        raise ExhaustedError(f"cannot look for what is left of a flow run: {error.strerror}") from error


def environment_of(pid: int) -> str:
    """Return a process's environment, "" where it may not be read or the process is gone."""
    try:
        with open(f"/proc/{pid}/environ", errors="replace") as environ:  # noqa: PTH123 - pathlib interns each pid
            return environ.read()
    except OSError:
        return ""


def _members(group: int, pids: Iterator[int]) -> Iterator[Member]:
    for pid in pids:
        try:
            stat = proc.stat_in(proc.read(f"/proc/{pid}/stat"))
        except OSError as error:
            if is_gone(error):
                continue
            raise
        if stat is not None and stat.group == group and not stat.is_gone:
            yield Member(pid, stat.start_ticks, stat.name)


def _exists(group: int) -> bool:
    return _signal(group, 0)


def _signal(group: int, number: int) -> bool:
    """Signal a group. Return False where there is none any more."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # all that is left are another user's
    return True
