"""The submit lock: for 30 s after a flow run was submitted nobody else can submit it."""

from __future__ import annotations

import time
from collections.abc import Callable

SUBMIT_LOCK_SECONDS = 30.0


class ExpiringSet:
    """A set whose members leave after a while. In memory only, as on the real Server: a restart empties it."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Given how long members stay; nothing stays with 0."""
        self._seconds = seconds
        self._monotonic = monotonic
        self._until: dict[str, float] = {}

    def add(self, member: str) -> bool:
        """Add a member. Return False, and change nothing, if it is there already."""
        now = self._monotonic()
        self._forget_until(now)
        if member in self._until:
            return False
        if self._seconds > 0:
            self._until[member] = now + self._seconds
        return True

    def discard(self, member: str) -> None:
        """Let a member leave now, if it is there."""
        self._until.pop(member, None)

    def _forget_until(self, now: float) -> None:
        # Members enter in the order in which they leave, so those that are due lie in front.
        while self._until:
            first, until = next(iter(self._until.items()))
            if until > now:
                return
            del self._until[first]
