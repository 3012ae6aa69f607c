"""Turns at what only Python can do, and so nobody else at the same time: parsing large bodies and documents.

While one thread parses, the loop has at most every other moment of the interpreter. So one parses at a time, and after
each there is a pause six times as long, but at most half a second: with 60 ms of parsing the next begins 360 ms later,
however many wait for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from local_agent.server.bounds.costs import TooCostlyError

_PAUSE = 6.0
# Shorter than anybody waits: who is the only one has a turn.
_MAX_PAUSE_SECONDS = 0.5


class Gate:
    """Lets one thread at a time through."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Given how long somebody waits at most."""
        self._seconds = seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._opens = 0.0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn. Raise TooCostlyError if it does not come soon."""
        until = self._monotonic() + self._seconds
        if not self._lock.acquire(timeout=self._seconds):
            raise _busy()
        try:
            if self._opens > until:
                raise _busy()
            time.sleep(max(0.0, self._opens - self._monotonic()))
            begun = self._monotonic()
            try:
                yield
            finally:
                now = self._monotonic()
                self._opens = now + min(_PAUSE * (now - begun), _MAX_PAUSE_SECONDS)
        finally:
            self._lock.release()


def _busy() -> TooCostlyError:
    return TooCostlyError("The API is busy with large requests: ask again later, or send the document's values apart")


class Allowance:
    """So much time a second for something, saved up to a bound; what was spent beyond it has to be waited for."""

    def __init__(self, share: float, most_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`share` is what may be spent of each second, `most_seconds` what may be spent at once."""
        self._share = share
        self._most = most_seconds
        self._monotonic = monotonic
        self._left = most_seconds
        self._at = monotonic()

    def is_left(self) -> bool:
        """Say whether something may be spent now."""
        now = self._monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._share)
        self._at = now
        return self._left > 0

    def spend(self, seconds: float) -> None:
        """Note that so much was spent."""
        self._left -= seconds
