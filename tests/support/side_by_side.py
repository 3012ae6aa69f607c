"""Tests side by side, in workers of pytest-xdist: what goes to one worker, what goes first, what runs alone.

Tests mostly wait: for a boot, a poll, a time-out. So there are more workers than processors. A worker is a whole pytest
with its own fixtures, temporary folder and marker of its processes; machines and servers have names and ports of their
own anyway. What is measured runs while all other workers stand still.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator

from support.checkout import CHECKOUT

_WORKERS_PER_PROCESSOR = 2
_MOST_WORKERS = 12  # each may hold booted machines in memory
_RELEASE = re.compile(r"\bdebian(\d+)\b|\[(12|13)\]")
# flock(2) needs some file: these are there
_DOOR = CHECKOUT / "tests/conftest.py"
_ROOM = CHECKOUT / "tests/support/side_by_side.py"


def number_of_workers() -> int:
    """Return how many workers suit this machine."""
    return min(_WORKERS_PER_PROCESSOR * len(os.sched_getaffinity(0)), _MOST_WORKERS)


def scope_of(nodeid: str) -> str:
    """Given a test's id, return what its worker gets with it: the file, and the release of its machine."""
    file, _, test = nodeid.partition("::")
    release = _RELEASE.search(test)
    return f"{file}@{release[1] or release[2]}" if release else file


@contextlib.contextmanager
def turn(*, alone: bool) -> Iterator[None]:
    """Hold the right to run a test: beside others, or `alone`.

    Who waits to be alone stands in the door, so that nobody else comes in meanwhile.
    """
    with _ROOM.open("rb") as room:
        with _DOOR.open("rb") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
