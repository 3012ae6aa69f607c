"""Places: an instance takes none from another, and whoever gives up gives back."""

from __future__ import annotations

import asyncio

import pytest

from local_agent.broker.turns import Turns

SECONDS = 60.0


class Holders:
    """Those who hold a place, until they are let go."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._go = asyncio.Event()
        self.held: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, *instances: str) -> None:
        """Let some ask for a place, and wait until nothing happens any more."""
        self.tasks += [asyncio.create_task(self._hold(instance)) for instance in instances]
        for _ in range(5):
            await asyncio.sleep(0)

    async def go(self) -> None:
        """Let all go who hold a place, and all who get one then."""
        self._go.set()
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*self.tasks)

    async def _hold(self, instance: str) -> None:
        async with self._turns.turn(instance, SECONDS):
            self.held.append(instance)
            await self._go.wait()


async def test_an_instance_has_places_of_its_own() -> None:
    holders = Holders(Turns(each=2, together=6))
    await holders.come(*"aaaaa", *"bb", *"c")
    assert sorted(holders.held) == list("aabbc")
    await holders.go()
    assert sorted(holders.held) == list("aaaaabbc")


async def test_the_last_places_go_to_who_holds_the_fewest() -> None:
    turns = Turns(each=3, together=3)
    first, second = Holders(turns), Holders(turns)
    await first.come(*"aaa")
    await second.come(*"aaab")
    await first.go()
    await second.come()
    assert second.held[0] == "b"
    await second.go()
    assert len(second.held) == 4


async def test_who_gives_up_takes_no_place_with_them() -> None:
    turns = Turns(each=1, together=1)
    holders = Holders(turns)
    await holders.come("a")
    with pytest.raises(TimeoutError):
        async with turns.turn("a", 0.01):
            raise AssertionError("there was no place")
    late = asyncio.create_task(_take(turns, "b"))
    await asyncio.sleep(0)
    late.cancel()
    await holders.go()
    with pytest.raises(asyncio.CancelledError):
        await late
    async with asyncio.timeout(SECONDS):
        await _take(turns, "c")


async def _take(turns: Turns, instance: str) -> None:
    async with turns.turn(instance, SECONDS):
        pass
