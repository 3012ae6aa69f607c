"""Time, as something that is passed in."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the agent needs of time."""

    def now(self) -> datetime:
        """Return the wall-clock time in UTC. It can jump."""

    def monotonic(self) -> float:
        """Return seconds that only ever grow."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """Return the wall-clock time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return CLOCK_MONOTONIC in seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running loop."""
        await asyncio.sleep(seconds)


class Backoff:
    """Delays that double from `first_seconds` up to `most_seconds`, each with up to a quarter of jitter.

    Jitter keeps a thousand agents from asking a recovering API in step.
    """

    def __init__(self, first_seconds: float, most_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._most_seconds = most_seconds
        self._next_seconds = first_seconds

    def reset(self) -> None:
        """Start again from the first delay."""
        self._next_seconds = self._first_seconds

    def next_seconds(self, most_seconds: float | None = None) -> float:
        """Return the next delay in seconds; `most_seconds`, where given, bounds this one instead."""
        most_seconds = self._most_seconds if most_seconds is None else most_seconds
        delay = min(most_seconds, self._next_seconds)
        self._next_seconds = min(most_seconds, delay * 2)
        return delay * random.uniform(0.75, 1.0)  # noqa: S311 - jitter guards no secret
