"""Room for what is large: whoever needs some waits until there is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


class Room:
    """So many bytes for all together, given out in the order in which they are asked for."""

    def __init__(self, total_bytes: int) -> None:
        """`total_bytes` is at least what one may ask for."""
        self._free = total_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, count: int) -> AbstractContextManager[None]:
        """Wait until there is room for so many bytes. It is given back at the end of the context."""
        if count and (self._waiting or count > self._free):
            place = asyncio.get_running_loop().create_future()
            self._waiting.append((count, place))
            await self._wait(place, count)
        else:
            self._free -= count
        return self._taken(count)

    async def _wait(self, place: asyncio.Future[None], count: int) -> None:
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._give_back(count)
            raise

    @contextmanager
    def _taken(self, count: int) -> Iterator[None]:
        try:
            yield
        finally:
            self._give_back(count)

    def _give_back(self, count: int) -> None:
        self._free += count
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._free):
            wanted, place = self._waiting.popleft()
            if not place.cancelled():
                self._free -= wanted
                place.set_result(None)
