"""What the launchers of processes on this machine share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from local_agent.launchers.starter import ShellStarter

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_agent.aio.clock import Clock
    from local_agent.launchers.belongings import Belongings
    from local_agent.launchers.output import Output
    from local_agent.launchers.room import MachineRoom
    from local_agent.launchers.starter import Starter


@dataclass(frozen=True, slots=True)
class Parts:
    """`open_files` is the limit of open files that flow runs get, soft and hard; None for this process's own.

    `shortage` says why no process can be started at all, "" where one can be; it may block as a disk does.
    """

    files: Belongings
    output: Output
    clock: Clock
    room: MachineRoom
    starter: Starter = field(default_factory=ShellStarter)
    open_files: tuple[int, int] | None = None
    shortage: Callable[[], str] = str
