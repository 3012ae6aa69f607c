"""Gives memory back to the system after requests that took much of it.

What a connection leaves behind refers to itself and waits for the garbage collector, which comes by count and not by
size; and what is free then stays with the C library, in pieces between others.
"""

from __future__ import annotations

import ctypes
import gc
import time
from contextlib import suppress

# It takes some milliseconds of everybody's time.
_MIN_SECONDS_BETWEEN = 2.0


class Tidiness:
    """Whether there is something to give back, and when that was last done."""

    def __init__(self) -> None:
        self._is_due = False
        self._done_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether something large was there."""
        return self._is_due

    def disturb(self) -> None:
        """Note that something large was there."""
        self._is_due = True

    def restore(self) -> None:
        """Give back what is free, if that is due and was not done just now."""
        now = time.monotonic()
        if self._is_due and now - self._done_at > _MIN_SECONDS_BETWEEN:
            self._is_due = False
            self._done_at = now
            gc.collect()
            with suppress(AttributeError):  # glibc has it
                ctypes.CDLL(None).malloc_trim(0)


def keep_for_good() -> None:
    """Have the garbage collector not look again and again at what is there since the start: modules, the schema."""
    gc.collect()
    gc.freeze()
