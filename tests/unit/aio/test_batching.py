"""Many callers, few requests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from local_agent.aio.batching import Batcher
from local_agent.errors import ApiRefusedError, TooLargeError
from support.clock import SkippingClock


class Sender:
    """Answers each item with its double; `held` holds requests back, `seconds` is how long one takes."""

    def __init__(self, clock: SkippingClock, seconds: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        self.came = asyncio.Event()
        self.held = asyncio.Event()
        self.held.set()
        self._clock = clock
        self._seconds = seconds
        self.fits = 1000

    async def send(self, items: Sequence[int]) -> Sequence[int | Exception]:
        """Send one batch: 13 is refused for itself, 99 spoils its whole batch, and 666 has it refused."""
        self.batches.append(list(items))
        self.came.set()
        await self.held.wait()
        self._clock.advance(self._seconds)
        if 99 in items:
            raise ConnectionError("no answer")
        if 666 in items:
            raise ApiRefusedError("all of it")
        if len(items) > self.fits:
            raise TooLargeError("too large")
        return [ValueError("unlucky") if item == 13 else item * 2 for item in items]


def _batcher(seconds: float = 0.0, most: int = 40, first: int = 10) -> tuple[Batcher[int, int], Sender]:
    clock = SkippingClock()
    sender = Sender(clock, seconds)
    return Batcher(sender.send, most=most, first=first, monotonic=clock.monotonic), sender


async def test_what_is_asked_in_one_turn_goes_out_together() -> None:
    batcher, sender = _batcher()
    assert await asyncio.gather(*(batcher.ask(item) for item in range(10))) == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert sender.batches == [list(range(10))]


async def test_what_is_asked_during_a_request_shares_the_next_one() -> None:
    batcher, sender = _batcher()
    sender.held.clear()
    first = asyncio.create_task(batcher.ask(1))
    await sender.came.wait()
    later = [asyncio.create_task(batcher.ask(item)) for item in (2, 3, 4)]
    await asyncio.sleep(0)
    sender.held.set()
    assert await asyncio.gather(first, *later) == [2, 4, 6, 8]
    assert sender.batches == [[1], [2, 3, 4]]


async def test_a_full_batch_does_not_wait_for_more() -> None:
    """A thousand ends of one moment fill ten batches: each would wait as long as the first, for nothing."""
    sender = Sender(SkippingClock())
    batcher = Batcher[int, int](sender.send, most=10, monotonic=SkippingClock().monotonic, gather_seconds=3600)
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(batcher.ask(item) for item in range(100, 120)))
    assert answers == [2 * item for item in range(100, 120)]
    assert [len(batch) for batch in sender.batches] == [10, 10]


async def test_a_refused_item_is_its_own_callers_business() -> None:
    batcher, _ = _batcher()
    answers = await asyncio.gather(*(batcher.ask(item) for item in (1, 13, 3)), return_exceptions=True)
    assert answers[0] == 2
    assert answers[2] == 6
    assert isinstance(answers[1], ValueError)


async def test_a_lost_answer_is_told_to_everybody_and_the_next_batch_goes_on() -> None:
    batcher, _ = _batcher()
    answers = await asyncio.gather(*(batcher.ask(item) for item in (1, 99)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionError, ConnectionError]
    assert await batcher.ask(5) == 10


async def test_quick_answers_make_batches_larger_up_to_the_most() -> None:
    batcher, sender = _batcher(seconds=0.1)
    await asyncio.gather(*(batcher.ask(item) for item in range(100, 200)))
    assert [len(batch) for batch in sender.batches] == [10, 20, 40, 30]


async def test_slow_answers_make_batches_smaller_down_to_one() -> None:
    batcher, sender = _batcher(seconds=3)
    await asyncio.gather(*(batcher.ask(item) for item in range(100, 120)))
    assert [len(batch) for batch in sender.batches] == [10, 5, 2, 1, 1, 1]


async def test_who_no_longer_waits_is_not_asked_for() -> None:
    batcher, sender = _batcher()
    given_up = asyncio.create_task(batcher.ask(1))
    kept = asyncio.create_task(batcher.ask(2))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await kept == 4
    assert sender.batches == [[2]]
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_nothing_is_sent_for_nobody() -> None:
    batcher, sender = _batcher()
    task = asyncio.create_task(batcher.ask(1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    assert sender.batches == []
    assert await batcher.ask(2) == 4


async def test_a_batch_that_is_refused_as_a_whole_is_sent_in_halves_until_one_item_is_to_blame() -> None:
    batcher, sender = _batcher()
    answers = await asyncio.gather(*(batcher.ask(item) for item in (1, 2, 3, 666, 5, 6, 7, 8)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [int, int, int, ApiRefusedError, int, int, int, int]
    assert [len(batch) for batch in sender.batches] == [8, 4, 2, 2, 1, 1, 4]


async def test_too_large_a_batch_is_sent_in_halves_and_later_ones_are_smaller() -> None:
    batcher, sender = _batcher()
    sender.fits = 3
    assert await asyncio.gather(*(batcher.ask(item) for item in range(100, 140))) == [
        2 * item for item in range(100, 140)
    ]
    assert [len(batch) for batch in sender.batches[:5]] == [10, 5, 2, 3, 5]
    assert len(sender.batches) < 25, "what did not fit is not tried again with each batch"


async def test_batches_are_smaller_after_a_failure_and_grow_again_later() -> None:
    batcher, sender = _batcher(seconds=0.3, most=80, first=80)
    await asyncio.gather(*(batcher.ask(item) for item in (99, *range(100, 300))), return_exceptions=True)
    sizes = [len(batch) for batch in sender.batches]
    assert sizes[:3] == [80, 40, 40]
    for _ in range(200):
        await batcher.ask(1)
    await asyncio.gather(*(batcher.ask(item) for item in range(100, 300)))
    assert 80 in [len(batch) for batch in sender.batches[len(sizes) :]]


async def test_a_fault_of_ours_leaves_nobody_waiting_for_ever() -> None:
    async def send(items: Sequence[int]) -> Sequence[int | Exception]:
        return items[1:]

    batcher = Batcher[int, int](send, most=10, monotonic=SkippingClock().monotonic)
    async with asyncio.timeout(30):
        for _ in range(2):
            with pytest.raises(AssertionError, match="1 answers to 2 questions"):
                await asyncio.gather(batcher.ask(1), batcher.ask(2))
