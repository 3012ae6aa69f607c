"""The grounds of the launchers whose flow runs are processes of this machine. No pytest: it may be a booted Debian."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from local_agent.aio.clock import SystemClock
from local_agent.aio.threads import Workers
from local_agent.launchers import Launcher, LiveRun
from local_agent.launchers.belongings import Belongings
from local_agent.launchers.output import FileOutput
from local_agent.launchers.parts import Parts
from local_agent.launchers.process import ProcessLauncher
from local_agent.launchers.room import MachineRoom
from local_agent.linux.procfs import boot_id
from local_agent.model import Child, Record, Step
from support import samples

_HEED = {True: "", False: "trap '' TERM INT; "}
_PROGRAM = 'echo begun >>"$1/begun"; while [ ! -e "$1/go" ]; do sleep 0.02; done; exit $2'


class _Nobody:
    """Reads no output along."""

    def follow(self, record: Record, path: str | Path) -> None:
        """A new file."""

    def resume(self, record: Record, path: str | Path) -> None:
        """A file of an earlier process."""


class LocalGround:
    """A folder on this machine; `make` makes the launcher of its parts."""

    def __init__(
        self, folder: Path, name: str, make: Callable[[Parts], Launcher], run_id: str = samples.RUN_ID
    ) -> None:
        self._runs = folder / "runs"
        self._runs.mkdir()
        self._folder = folder
        self._make = make
        self._disk = Workers("files", 1)
        self._pids: set[int] = set()
        self.record = replace(samples.record(id=run_id, step=Step.CLAIMING, launcher=name), boot_id=boot_id())

    def launcher(self) -> Launcher:
        """Return one over the same folder."""
        files = Belongings(self._runs.joinpath, self._disk, lambda *_: None)
        return self._make(Parts(files, FileOutput(_Nobody()), SystemClock(), MachineRoom(samples.settings)))

    def child(self, code: int = 0, *, heeds: bool = True) -> Child:
        """Return a shell that waits for a file."""
        words = ("/bin/sh", "-c", _HEED[heeds] + _PROGRAM, "sh", str(self._folder), str(code))
        return Child(words, {"PATH": "/usr/bin:/bin"}, self._folder)

    @property
    def begun(self) -> int:
        """Count what it wrote."""
        path = self._folder / "begun"
        return path.read_text().count("begun\n") if path.exists() else 0

    def let_end(self) -> None:
        """Make that file."""
        (self._folder / "go").touch()

    def lose(self, run: LiveRun) -> None:
        """Let go of its descriptors, as a death does."""
        process = run.handle["process"]
        assert isinstance(process, dict)
        self._pids.add(process["pid"])
        run.detach()

    def is_gone(self) -> bool:
        """Ask for every process that has its id in its words, and take the ends of those that were lost."""
        for pid in list(self._pids):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    return False
            self._pids.discard(pid)
        mark = str(self._folder).encode()
        return not any(mark in _command(path) for path in Path("/proc").glob("[0-9]*/cmdline"))

    def left(self) -> Sequence[str]:
        """Return the files of the run."""
        return sorted(path.name for path in self._runs.iterdir())

    def close(self) -> None:
        """End what a failed check left, and take the ends of those that were lost."""
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # a child that nobody has waited for: the number is its own
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._disk.close()


def _command(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def process_ground(folder: Path) -> LocalGround:
    """Return the ground of the launcher `process`."""
    return LocalGround(folder, "process", ProcessLauncher)
