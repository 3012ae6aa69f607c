"""A process launcher over a folder of its own, for tests that start real processes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from local_agent.aio.clock import SystemClock
from local_agent.aio.threads import Workers
from local_agent.launchers import LiveRun
from local_agent.launchers.belongings import Belongings
from local_agent.launchers.handle import handle_in
from local_agent.launchers.output import FileOutput
from local_agent.launchers.parts import Parts
from local_agent.launchers.process import ProcessLauncher
from local_agent.launchers.room import MachineRoom
from local_agent.launchers.starter import PERL, ShellStarter, Starter
from local_agent.limits import Limits
from local_agent.model import Child, End, Record
from support import samples
from support.api_client import wait_until

_PATH = "/usr/bin:/bin"


class Nobody:
    """Reads no output along."""

    def follow(self, record: Record, path: str | Path) -> None:
        """A new file."""

    def resume(self, record: Record, path: str | Path) -> None:
        """A file of an earlier process."""


@dataclass
class Bed:
    """A launcher over a folder of its own."""

    folder: Path

    def __post_init__(self) -> None:
        self.left: list[str] = []
        self.disk = Workers("files", 1)
        self.record = samples.record(boot_id="this-boot")
        self.launcher = self.new_launcher()

    def new_launcher(self) -> ProcessLauncher:
        """Return the launcher of another life of the agent."""
        return self.launcher_with(PERL)

    def launcher_with(self, perl: str) -> ProcessLauncher:
        """Return a launcher that has this perl."""
        return self.launcher_starting(ShellStarter(perl))

    def launcher_starting(self, starter: Starter) -> ProcessLauncher:
        """Return a launcher that starts shims in this way."""
        files = Belongings(self.folder.joinpath, self.disk, self.note_left)
        parts = Parts(files, FileOutput(Nobody()), SystemClock(), MachineRoom(samples.settings), starter)
        return ProcessLauncher(parts)

    def note_left(self, record: Record, left: str) -> None:
        """Keep what is said to be left."""
        assert record.id == self.record.id
        self.left.append(left)

    async def launch(
        self,
        *argv: str,
        limits: Limits | None = None,
        env: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> LiveRun:
        """Start a process at its gate."""
        command = Child(argv, {"PATH": _PATH, **os.environ, **(env or {})}, folder or self.folder)
        return await self.launcher.launch(self.record, command, limits or Limits())

    async def run(self, *argv: str, limits: Limits | None = None) -> End:
        """Run a process to its end, as a flow run's story does."""
        process = await self.launch(*argv, limits=limits)
        process.open_gate()
        return await self.conclude(process)

    async def conclude(self, process: LiveRun) -> End:
        """Wait for a process, sweep, and return how it ended. Nothing of it is left then."""
        await process.ended()
        await process.sweep()
        end = await process.evidence()
        await process.release()
        assert list(self.folder.glob(f"{self.record.id}*")) == []
        return end

    def adopted(self, process: LiveRun) -> Record:
        """Return what the disk would know of a process."""
        return replace(self.record, launcher="process", handle=process.handle)

    async def adopt(self, record: Record) -> LiveRun:
        """Take up a live flow run in another life of the agent."""
        found = await self.new_launcher().adopt(record)
        assert not isinstance(found, End), found
        return found

    async def end_by_adopting(self, record: Record) -> End:
        """Return how a flow run ended, as another life of the agent learns it."""
        found = await self.new_launcher().adopt(record)
        assert isinstance(found, End), found.where
        return found

    def wait_for(self, name: str) -> str:
        """Wait for a file that a process writes, and return what is in it."""
        path = self.folder / name
        wait_until(lambda: path.exists() and path.read_text().endswith("\n"), lambda: f"{name} is not there")
        return path.read_text()


def pid_of(process: LiveRun) -> int:
    """Return the pid of a flow run's shim."""
    identity = handle_in(samples.record(handle=process.handle)).process
    assert identity is not None
    return identity.pid


def sh(script: str) -> tuple[str, ...]:
    """Return the command that runs a script."""
    return ("/bin/sh", "-c", script)
