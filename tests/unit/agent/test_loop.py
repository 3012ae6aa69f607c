"""The agent's loops: what a fault of its own leaves standing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from local_agent import events
from local_agent.agent.loop import Agent
from local_agent.agent.progress import Progress
from local_agent.agent.reachability import Reachability
from local_agent.errors import ApiUnreachableError
from support import samples
from support.lifecycle_bed import HANDLE, Bed, Plot, lifecycle_bed


def _agent(bed: Bed, progress: Progress | None = None) -> Agent:
    return Agent(
        backend=bed.backend,
        lifecycle=bed.lifecycle,
        admission=bed.admission,
        reachability=Reachability(bed.log, bed.clock),
        progress=progress or Progress(bed.clock.monotonic),
        clock=bed.clock,
        log=bed.log,
        settings=bed.settings,
        fitness=bed.fitness,
    )


@pytest.mark.parametrize("faults", [1, 3])
async def test_a_fault_in_a_story_is_said_and_its_end_still_told(tmp_path: Path, faults: int) -> None:
    async with lifecycle_bed(tmp_path, Plot(faults=faults)) as bed:
        record = samples.record(launcher="test", handle=HANDLE)
        bed.store.save(record)
        agent = asyncio.create_task(_agent(bed).run([record]))
        try:
            async with asyncio.timeout(30):
                await bed.store.removed.wait()
        finally:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)
        assert bed.log.events.count(events.INTERNAL_ERROR) == faults
        assert bed.trail.count("report: exited") == 1
        assert sum(seconds > 20 for seconds in bed.clock.slept) == faults, "a fault must not fill the log"
        bed.check_that_nothing_is_held()


async def test_a_fault_in_a_poll_is_said_and_the_queue_asked_again(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot()) as bed:
        asked = asyncio.Event()
        polls = []

        async def due_runs(*_: object) -> object:
            polls.append(1)
            if len(polls) < 3:
                raise RecursionError("a fault of ours")
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        bed.plots.due_runs = due_runs  # type: ignore[method-assign,assignment]  # an API that finds a fault
        one = _agent(bed)
        one._nap = bed.clock.sleep  # type: ignore[method-assign]  # its pauses take no time
        agent = asyncio.create_task(one.run([]))
        try:
            async with asyncio.timeout(30):
                await asked.wait()
            assert "by a fault of local-agent itself" in one.status()
        finally:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)
        assert bed.log.events.count(events.INTERNAL_ERROR) == 2
        assert sum(seconds > 20 for seconds in bed.clock.slept) == 2, "a fault must not fill the log"


async def test_a_story_that_is_stopped_before_its_first_step_frees_its_id(tmp_path: Path) -> None:
    """Otherwise Python complains of a coroutine that was never awaited, and the flow run is never taken again."""
    async with lifecycle_bed(tmp_path) as bed:
        agent = _agent(bed)
        record = samples.record(launcher="test", handle=HANDLE)
        running = asyncio.create_task(agent.run([record]))
        await asyncio.sleep(0)  # one turn: the story's task exists and has not begun
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert not agent.is_busy


async def test_what_is_wrong_between_agent_and_api_is_said_once_and_stands_in_the_status(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot()) as bed:
        one = _agent(bed)
        naps, seen = 0, asyncio.Event()

        async def nap(_seconds: float) -> None:
            nonlocal naps
            naps += 1
            if naps == 3:
                assert "; this machine's clock is 2d ahead of the API's; claims and ends do not get " in one.status()
                bed.plots.clock_ahead_seconds, bed.plots.trouble = -1.0, ""
            if naps == 6:
                seen.set()
                await asyncio.Event().wait()

        one._nap = nap  # type: ignore[method-assign,assignment]  # its pauses are counted
        bed.plots.clock_ahead_seconds, bed.plots.trouble = 172_800.0, "too large (HTTP 413)"
        agent = asyncio.create_task(one.run([]))
        try:
            async with asyncio.timeout(30):
                await seen.wait()
            assert one.api_problem == ""
        finally:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)
        said = [event for event in bed.log.events if event.message_id[-3:] in ("112", "113", "114", "115")]
        assert said == [events.CLOCK_WRONG, events.NOTHING_TAKEN, events.CLOCK_RIGHT, events.TAKEN_AGAIN]


class Said(Progress):
    """Keeps how long the loop said that it would be away."""

    def __init__(self, bed: Bed) -> None:
        super().__init__(bed.clock.monotonic)
        self.most_seconds: list[float] = []
        self.enough = asyncio.Event()

    def mark(self, most_seconds: float = 0.0) -> None:
        """Keep it."""
        super().mark(most_seconds)
        self.most_seconds.append(most_seconds)
        if len(self.most_seconds) >= 12:
            self.enough.set()


async def test_the_loop_says_how_long_it_means_to_be_away(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, poll_interval_seconds=3600.0, request_timeout_seconds=40.0) as bed:
        said = Said(bed)
        running = asyncio.create_task(_agent(bed, said).run([]))
        async with asyncio.timeout(30):
            await said.enough.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        naps = [seconds for seconds in said.most_seconds if seconds < 80]
        assert naps == sorted(naps), "each nap is said, and they grow"
        assert len(naps) >= 3
        assert max(said.most_seconds) >= 2 * 40, "a request may take twice its timeout"


async def test_a_page_counts_although_nobody_can_say_what_just_missed_it(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot()) as bed:
        polled, asked = asyncio.Event(), []

        async def near_misses(*_: object) -> object:
            asked.append(1)
            raise ApiUnreachableError("no answer in time")

        async def nap(_seconds: float) -> None:
            polled.set()
            await asyncio.Event().wait()

        bed.plots.near_misses = near_misses  # type: ignore[method-assign,assignment]  # an API that fails at it
        one = _agent(bed)
        one._nap = nap  # type: ignore[method-assign,assignment]  # the first poll is all
        agent = asyncio.create_task(one.run([]))
        try:
            async with asyncio.timeout(30):
                await polled.wait()
            assert asked
            assert one.connected
            assert "API answered" in one.status(), "the poll itself was answered"
        finally:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)
