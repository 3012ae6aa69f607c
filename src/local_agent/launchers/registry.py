"""The launchers there are, by name: the only place that knows them.

Which one is used is the setting `launcher`; `auto` is the first that nothing is against here. A record says by name
which launcher its flow run has. Where that is another than the one in use, `Opened.takes_up` says who stands in for it.
"""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from local_agent.errors import ConfigError, StateError
from local_agent.launchers import handle
from local_agent.launchers.own_service import OwnService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from local_agent.aio.clock import Clock
    from local_agent.launchers import Launcher
    from local_agent.launchers.belongings import Belongings
    from local_agent.launchers.output import Output
    from local_agent.linux.capacity import Descriptors
    from local_agent.model import Record
    from local_agent.settings import Settings

    # given the pid of a process at its gate, puts it where flow runs would be, for the length of the context
    Enclosed = Callable[[int], AbstractAsyncContextManager[None]]

_AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a launcher may need of the agent it starts flow runs for."""

    settings: Callable[[], Settings]
    environ: Mapping[str, str]
    files: Belongings
    output: Output
    clock: Clock
    descriptors: Descriptors


@dataclass(frozen=True, slots=True)
class Opened:
    """A launcher that is ready, and what goes with it.

    `takes_up` has for each name in a record who takes its flow run up. `words` say through what it starts flow runs.
    `pids` are the processes that are waited for here. `service` is the agent's own, where its flow runs are in it, and
    `because` why they are.
    """

    launcher: Launcher
    takes_up: Mapping[str, Launcher]
    words: str
    enclosed: Enclosed | None = None
    pids: Callable[[], set[int]] = set
    service: OwnService = field(default_factory=OwnService)
    because: str = ""


class Opener(Protocol):
    """Makes one kind of launcher."""

    def reason_against(self, needs: Needs) -> str:
        """Return why it cannot be used here, "" where it can."""

    def open(self, needs: Needs, because: str) -> AbstractAsyncContextManager[Opened]:
        """Make one, for the length of the context. `because` says why no other was taken, "" where it was named."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of launcher. `opener` is where its `Opener` is, imported when it is used.

    `has_processes_here` tells whether its handles are those of handle.py, so that anybody can look at its flow runs.
    """

    opener: str
    has_processes_here: bool = False


# in the order in which `auto` tries them
KINDS: Mapping[str, Kind] = {
    "scope": Kind("local_agent.launchers.opening:SCOPES", has_processes_here=True),
    "process": Kind("local_agent.launchers.opening:PROCESSES", has_processes_here=True),
}


@contextlib.asynccontextmanager
async def opened(needs: Needs, kinds: Mapping[str, Kind] = KINDS) -> AsyncIterator[Opened]:
    """Give the launcher that the settings name, or the first that can be used. Raise ConfigError where it cannot."""
    opener, because = _chosen(needs, kinds)
    async with opener.open(needs, because) as one:
        yield one


def _chosen(needs: Needs, kinds: Mapping[str, Kind]) -> tuple[Opener, str]:
    wanted, because = needs.settings().launcher, ""
    for name, kind in kinds.items():
        if wanted not in (_AUTO, name):
            continue
        opener = _opener(kind)
        reason = opener.reason_against(needs)
        if not reason:
            return opener, because
        because = because or reason
    hint = "use --launcher process, or auto"
    raise ConfigError(f"launcher: {wanted} cannot be used here: {because}", hint=hint)


def _opener(kind: Kind) -> Opener:
    module, _, attribute = kind.opener.partition(":")
    found: Opener = getattr(importlib.import_module(module), attribute)
    return found


def seems_alive(record: Record) -> bool:
    """Tell, for those who only look on, whether a flow run whose record says running still does.

    Where it has no process here, its record is all there is to see. Raise ExhaustedError where /proc cannot be asked.
    """
    return handle.seems_alive(record) if _has_process_here(record) else True


def cgroup_of(record: Record) -> str:
    """Return, for those who only look on, the cgroup that a flow run is in now, "" for none. Raise ExhaustedError."""
    return handle.cgroup_of(record) if _has_process_here(record) else ""


def is_sound(record: Record) -> bool:
    """Tell whether what a record says of its flow run can be understood, as far as others than its launcher know."""
    if not _has_process_here(record):
        return True
    try:
        handle.handle_in(record)
    except StateError:
        return False
    return True


def _has_process_here(record: Record) -> bool:
    return not record.launcher or (record.launcher in KINDS and KINDS[record.launcher].has_processes_here)
