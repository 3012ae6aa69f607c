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
from pathlib import Path

_WORKERS_PER_PROCESSOR = 2
_MAX_WORKERS = 12  # each may hold booted machines in memory
_RELEASE = re.compile(r"\bdebian(\d+)\b|\[(12|13)\]")


def number_of_workers() -> int:
    """Return how many workers suit this machine."""
    return min(_WORKERS_PER_PROCESSOR * len(os.sched_getaffinity(0)), _MAX_WORKERS)


def scope_of(nodeid: str) -> str:
    """Given a test's id, return what its worker gets with it: the file, and the release of its machine."""
    file, _, test = nodeid.partition("::")
    release = _RELEASE.search(test)
    return f"{file}@{release[1] or release[2]}" if release else file


@contextlib.contextmanager
def turn(checkout: Path, *, alone: bool) -> Iterator[None]:
    """Hold the right to run a test of a checkout: beside others, or `alone`.

    Who waits to be alone stands in the door, so that nobody else comes in meanwhile. flock(2) needs something that is
    there, so a folder is the room and another the door.
    """
    with _opened(checkout) as room:
        with _opened(checkout / "tests") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
