"""Places for what takes a while: so many for each instance, so that none waits for another's, and so many for all."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Waiting = deque[asyncio.Future[None]]


class Turns:
    """A free place goes to the instance that holds the fewest of those that wait; within one, to who waits longest."""

    def __init__(self, *, each: int, together: int) -> None:
        self._each = each
        self._together = together
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, Waiting] = {}

    @contextlib.asynccontextmanager
    async def turn(self, instance: str, seconds: float) -> AsyncIterator[None]:
        """Hold a place for the context's length. Raise TimeoutError where none is free in time."""
        await self._take(instance, seconds)
        try:
            yield
        finally:
            self._held[instance] -= 1
            self._hand_on()

    async def _take(self, instance: str, seconds: float) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(instance, deque()).append(place)
        self._hand_on()
        try:
            async with asyncio.timeout(seconds):
                await place
        except BaseException:
            self._give_up(instance, place)
            raise

    def _give_up(self, instance: str, place: asyncio.Future[None]) -> None:
        if place.done() and not place.cancelled():  # it was given just now, to nobody any more
            self._held[instance] -= 1
        elif place in (waiting := self._waiting.get(instance, deque())):
            waiting.remove(place)
        self._hand_on()

    def _hand_on(self) -> None:
        while self._held.total() < self._together and (instance := self._next()):
            waiting = self._waiting.pop(instance)
            waiting.popleft().set_result(None)
            self._held[instance] += 1
            if waiting:
                self._waiting[instance] = waiting  # at the end now: others with as many come first
        self._waiting = {name: waiting for name, waiting in self._waiting.items() if waiting}
        self._held += Counter()  # forgets those that hold none

    def _next(self) -> str:
        fit = [name for name, waiting in self._waiting.items() if waiting and self._held[name] < self._each]
        return min(fit, key=lambda name: self._held[name], default="")
