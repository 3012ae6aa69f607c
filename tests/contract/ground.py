"""What the suite needs of a launcher: one for each life of the agent, and the flow run that it launches.

To add a launcher: fulfil `Ground`, and add a line to `GROUNDS` in conftest.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from local_agent.launchers import Launcher, LiveRun
from local_agent.model import Child, Record


class Ground(Protocol):
    """One flow run's place to live, with nothing of it there yet. Lives of the agent come and go over it."""

    @property
    def record(self) -> Record:
        """What the disk knows before the launch: a claim."""

    def launcher(self) -> Launcher:
        """Return the launcher of a new life of the agent."""

    def child(self, code: int = 0, *, heeds: bool = True) -> Child:
        """Return a flow run that notes that it has begun, and ends with a code when it is let.

        One that does not heed a request to end goes on until it is killed.
        """

    @property
    def begun(self) -> int:
        """How often it has begun."""

    def let_end(self) -> None:
        """Let it come to its own end."""

    def lose(self, run: LiveRun) -> None:
        """Let the agent that has this run die, as by kill -9."""

    def is_gone(self) -> bool:
        """Tell whether nothing of it runs, wherever it ran."""

    def left(self) -> Sequence[str]:
        """Return what is kept of it, by name; none when it is forgotten."""
