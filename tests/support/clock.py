"""A clock whose sleeps take no time: what is slept is added to both of its hands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class SkippingClock:
    """Starts at START, or another time, and 1000 s. `on_sleep` is told of each sleep before its time has passed."""

    def __init__(self, on_sleep: Callable[[float], Awaitable[None]] | None = None, start: datetime = START) -> None:
        self._start = start
        self.on_sleep = on_sleep
        self._passed = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        """Return the time in UTC."""
        return self._start + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        """Return seconds."""
        return 1000.0 + self._passed

    async def sleep(self, seconds: float) -> None:
        """Let the other tasks have their turn, and so many seconds pass."""
        self.slept.append(seconds)
        if self.on_sleep is not None:
            await self.on_sleep(seconds)
        await asyncio.sleep(0)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._passed += seconds

    def set_wall_clock(self, seconds: float) -> None:
        """Set the wall clock so much forward, or back; the monotonic one goes on."""
        self._start += timedelta(seconds=seconds)
