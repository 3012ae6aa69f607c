"""What the demo starts, and how all of it ends: also what its children started, and whatever happened before."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# in the environment of everything that the demo starts, and so of what that starts in turn: the flow runs
_MARKER = "DEMO_RUN_ID"
_STOP_SECONDS = 15.0


class DemoError(Exception):
    """The demo cannot go on: what failed, with what its part printed."""


class Processes:
    """Starts processes in sessions of their own, so that a ctrl-C reaches the demo alone, and ends them in order."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Given the environment that they all get."""
        self._mark = f"{_MARKER}={uuid.uuid4().hex}"
        name, _, value = self._mark.partition("=")
        self._environment = {**environment, name: value}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(
        self, command: Sequence[str | Path], output: Path, *, more_environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Given a command and the file for all that it prints, start it."""
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**self._environment, **(more_environment or {})},
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def end(self) -> None:
        """End them, the last one first, and then every process that they left."""
        for process in reversed(self._started):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            process.kill()
            process.wait()
        self._end_marked()

    def _end_marked(self) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        while (left := list(self._marked())) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def _marked(self) -> Iterator[int]:
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and self._mark.encode() in (folder / "environ").read_bytes():
                    yield int(folder.name)


def wait_for_line(process: subprocess.Popen[bytes], output: Path, start: str, *, timeout_seconds: float) -> str:
    """Given a process and its output file, return the rest of its first line with that start. Raise DemoError."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        for line in output.read_text(errors="replace").splitlines():
            if line.startswith(start):
                return line.removeprefix(start).strip()
        if ended:
            break
        time.sleep(0.02)
    message = f"{Path(str(process.args[0])).name} did not say {start!r}"  # type: ignore[index] # always a list here
    raise DemoError(f"{message}; it printed:\n{output.read_text(errors='replace')}")
