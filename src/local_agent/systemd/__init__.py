"""systemd as the agent meets it: names, the manager, the notify socket, the journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from local_agent.limits import Limits


@dataclass(frozen=True, slots=True)
class ScopeRequest:
    """A scope to start around a process that exists: its name, where it lies, what it may use."""

    unit: str
    slice: str
    pid: int
    description: str
    after: str
    limits: Limits
    stop_seconds: float
    oom_policy: str = "stop"


@dataclass(frozen=True, slots=True)
class ScopeStatus:
    """A loaded scope, in systemd's own words (systemd.unit(5), org.freedesktop.systemd1(5))."""

    active_state: str
    result: str


class LineLimits(Protocol):
    """journald's limit of lines for scopes, which drops what comes too fast (broker/line_limits.py)."""

    def lifted(self, unit: str) -> AbstractContextManager[None]:
        """Lift it for a scope that is started within the context."""

    def note_end(self, unit: str) -> None:
        """Note that a scope has ended."""


class ScopeManager(Protocol):
    """Whatever can make scopes for this agent: the system's manager, a user's own, the broker.

    Each method raises ManagerUnreachableError when there is no answer, or a no; what was asked may have been done.
    """

    async def reason_against(self, *, thoroughly: bool) -> str:
        """Return why no scope can be made, "" where nothing is known against it; `thoroughly`: hear a word from it."""

    async def start_scope(self, request: ScopeRequest) -> None:
        """Move a process into a new scope and return when its job is done."""

    async def stop(self, unit: str) -> None:
        """End everything in a scope and return when it is gone. One that is not loaded is gone already."""

    async def kill(self, unit: str, signal: int) -> None:
        """Send a signal to every process of a scope."""

    async def status(self, unit: str) -> ScopeStatus | None:
        """Return how a scope stands, None where it is not loaded."""

    async def reset_failed(self, unit: str) -> None:
        """Let go of a failed scope, so that its name is free again."""

    async def is_shutting_down(self) -> bool:
        """Tell whether the machine is going down."""

    async def last_lines(self, unit: str, most: int) -> Sequence[str]:
        """Return the last lines that a scope's flow run wrote, where the agent's user may not read them; else none."""

    async def close(self) -> None:
        """Let go of the connection."""
