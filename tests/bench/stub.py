"""A child in place of Prefect's flow-run process that costs next to nothing, and tells when it has started.

It writes its flow run's id into a pipe, so its start is known as soon as it has one, without looking again and again.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from pathlib import Path

PATIENCE_SECONDS = 120.0

# the agent asks the interpreter that it was given for its version of prefect
_SCRIPT = """\
#!/bin/sh
if [ "$1" = -c ]; then echo 1.4.1; exit; fi
echo "$PREFECT__CONTEXT__FLOW_RUN_ID" >"{starts}"
{then}
"""


class Stub:
    """A script that both agents start as the interpreter, and the pipe that it writes into."""

    def __init__(self, folder: Path, *, held: bool = False) -> None:
        """Given an empty folder. A held child lives until `release`, others end at once."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "python"
        self._starts = folder / "starts"
        self._gate = folder / "gate"
        for pipe in (self._starts, self._gate):
            os.mkfifo(pipe)
        self.path.write_text(_SCRIPT.format(starts=self._starts, then=f'read -r _ <"{self._gate}"' if held else ""))
        self.path.chmod(0o755)
        # for writing, too: a child's open must neither wait nor fail, and the pipe never ends
        self._descriptor = os.open(self._starts, os.O_RDWR | os.O_NONBLOCK)
        self._unfinished = b""

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._descriptor)

    def starts(self, count: int, *, seconds: float = PATIENCE_SECONDS) -> list[tuple[str, float]]:
        """Wait for so many starts, and return each one's flow run and time (monotonic seconds).

        Raise AssertionError if they do not come.
        """
        found: list[tuple[str, float]] = []
        deadline = time.monotonic() + seconds
        while len(found) < count:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{len(found)} of {count} children had started after {seconds:g} s"
            found += [(flow_run_id, time.monotonic()) for flow_run_id in self._read_lines()]
        return found

    def _read_lines(self) -> Sequence[str]:
        *lines, self._unfinished = (self._unfinished + os.read(self._descriptor, 1 << 16)).split(b"\n")
        return [line.decode() for line in lines]

    def waiting(self) -> int:
        """Return how many more starts there were than were asked for."""
        ready, _, _ = select.select([self._descriptor], [], [], 0)
        return len(self._read_lines()) if ready else 0

    def release(self) -> None:
        """Let every child that is held end. Raise OSError where none is."""
        os.close(os.open(self._gate, os.O_WRONLY | os.O_NONBLOCK))
