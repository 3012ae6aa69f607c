"""Many callers, few requests: what is asked while a request is under way goes out together in the next one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from local_agent.errors import ApiRefusedError, NotUnderstoodError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

_FIRST_SIZE = 10
_GROW_BELOW_SECONDS = 0.5
_SHRINK_ABOVE_SECONDS = 2.0
_SMALL_FOR_SECONDS = 60.0


class Batcher(Generic[_Item, _Answer]):
    """Collects single questions into batches, one batch under way at a time.

    `send` is given the items and returns their answers in the same order; an answer that is an exception is raised
    to its own caller. A batch that is refused or not understood as a whole is sent again in halves, down to single
    items: then it was not done, and one item may have spoilt it. What else `send` raises is raised to every caller of
    that batch. The size starts at ten and follows the measured time, because on the real Server each item of a batch
    costs one call after another. It is halved after each failure.

    Less than fills a batch waits for `gather_seconds` for more.
    """

    def __init__(
        self,
        send: Callable[[Sequence[_Item]], Awaitable[Sequence[_Answer | Exception]]],
        *,
        most: int,
        monotonic: Callable[[], float],
        first: int = _FIRST_SIZE,
        gather_seconds: float = 0.0,
    ) -> None:
        self._gather_seconds = gather_seconds
        self._send = send
        self._most = most
        self._size = min(first, most)
        self._fits = most  # how many went through at once, where more failed lately
        self._fits_until = 0.0
        self._monotonic = monotonic
        self._waiting: list[tuple[_Item, asyncio.Future[_Answer]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def ask(self, item: _Item) -> _Answer:
        """Send `item` with the next batch and return its answer."""
        future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        return await future

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                # at 0 still a turn of the loop: everything that came due in it shares the batch
                await asyncio.sleep(0 if len(self._waiting) >= self._size else self._gather_seconds)
                batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
                await self._send_one([pair for pair in batch if not pair[1].done()])
        finally:
            self._sender = None

    async def _send_one(self, batch: list[tuple[_Item, asyncio.Future[_Answer]]]) -> None:
        if not batch:
            return
        began = self._monotonic()
        answers = await in_parts([item for item, _ in batch], self._send_noting_failure)
        if len(answers) != len(batch):  # a fault of ours: it must not leave the askers waiting for ever
            answers = [AssertionError(f"{len(answers)} answers to {len(batch)} questions")] * len(batch)
        self._adapt(self._monotonic() - began)
        for (_, future), answer in zip(batch, answers, strict=True):
            _settle(future, answer)

    async def _send_noting_failure(self, items: Sequence[_Item]) -> Sequence[_Answer | Exception]:
        try:
            return await self._send(items)
        except Exception:
            # so many at once may be too many; whether they still are is tried again after a while
            self._size = self._fits = max(1, min(self._size, len(items) // 2))
            self._fits_until = self._monotonic() + _SMALL_FOR_SECONDS
            raise

    def _adapt(self, took_seconds: float) -> None:
        if took_seconds > _SHRINK_ABOVE_SECONDS:
            self._size = max(1, self._size // 2)
        elif took_seconds < _GROW_BELOW_SECONDS:
            most = self._fits if self._monotonic() < self._fits_until else self._most
            self._size = max(self._size, min(most, self._size * 2))


async def in_parts(
    items: Sequence[_Item], send: Callable[[Sequence[_Item]], Awaitable[Sequence[_Answer | Exception]]]
) -> list[_Answer | Exception]:
    """Send items and return their answers in the same order, errors among them.

    Where all together are refused or not understood they are sent in halves, until the error is a single item's own.
    """
    try:
        return list(await send(items))
    except (ApiRefusedError, NotUnderstoodError) as error:
        if len(items) < 2:
            return [error] * len(items)
    except Exception as error:
        return [error] * len(items)
    half = len(items) // 2
    return [*await in_parts(items[:half], send), *await in_parts(items[half:], send)]


def _settle(future: asyncio.Future[_Answer], answer: _Answer | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
