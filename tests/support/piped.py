"""An agent whose console is a pipe that is read only when the test says so."""

from __future__ import annotations

import contextlib
import os
import subprocess
from types import TracebackType

from support.agent import AgentProcess


class PipedAgent(AgentProcess):
    """An agent whose console is a pipe, which is full when the agent starts."""

    _reading = -1

    def start(self) -> None:
        """Start it with both of its outputs in the pipe."""
        self.hang_up()
        self._reading, writing = full_pipe()
        os.set_blocking(self._reading, False)
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, env=self.environment
        )
        os.close(writing)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.hang_up()

    def drain(self) -> None:
        """Read what is there, into `console`."""
        with contextlib.suppress(BlockingIOError), self._console_path.open("ab") as console:
            while self._reading >= 0 and (chunk := os.read(self._reading, 1 << 20)):
                console.write(chunk)

    def hang_up(self) -> None:
        """Close the end that is read."""
        if self._reading >= 0:
            os.close(self._reading)
        self._reading = -1

    @property
    def said(self) -> str:
        """What it has printed, as far as it can be read now."""
        self.drain()
        return self.console


def full_pipe() -> tuple[int, int]:
    """Return both ends of a pipe that takes nothing more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"." * 4096)
    os.set_blocking(writing, True)
    return reading, writing
