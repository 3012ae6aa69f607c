"""The agent's own loops and lifecycle over every kind of API, with a launcher of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from contract.side import Made, Side, due, record_of
from local_agent import events
from local_agent.agent.loop import Agent
from local_agent.agent.progress import Progress
from local_agent.agent.reachability import Reachability
from local_agent.limits import Limits
from local_agent.linux.procfs import boot_id
from local_agent.model import Cause, Child, Claim, End, Record, RunState
from support.api_client import wait_until
from support.lifecycle_bed import Bed, Launcher, Plot, Process, lifecycle_bed

_GRACE_SECONDS = 5.0


class Living(Process):
    """A process that lives until it is stopped, and hears of nothing."""

    def __init__(self, plot: Plot) -> None:
        super().__init__(plot)
        self._over = asyncio.Event()

    async def ended(self) -> None:
        """Wait for `stop`."""
        await self._over.wait()

    async def stop(self, grace_seconds: float) -> None:
        """End it."""
        self._plot.trail.append("stop")
        self._over.set()


class LivingLauncher(Launcher):
    """Launches those."""

    async def launch(self, record: Record, child: Child, limits: Limits) -> Process:
        """Start one at its gate."""
        await super().launch(record, child, limits)
        return Living(self._plot)


@asynccontextmanager
async def agent_over(side: Side, folder: Path, plot: Plot, *, lives: bool = False) -> AsyncIterator[Bed]:
    """Run an agent over a side for the length of the context."""
    given = {"poll_interval_seconds": 0.2, "cancel_grace_seconds": _GRACE_SECONDS, "hostname_label": False}
    launcher = LivingLauncher(plot) if lives else Launcher(plot)
    async with lifecycle_bed(folder, plot, api=(side.backend, side.clock), launcher=launcher, **given) as bed:
        agent = Agent(
            backend=side.backend,
            lifecycle=bed.lifecycle,
            admission=bed.admission,
            reachability=Reachability(bed.log, bed.clock),
            progress=Progress(bed.clock.monotonic),
            clock=bed.clock,
            log=bed.log,
            settings=bed.settings,
            fitness=bed.fitness,
        )
        running = asyncio.create_task(agent.run(bed.store.load_all()[0]))
        try:
            yield bed
            await until(lambda: not agent.is_busy, "a story goes on")
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        faults = [said for said in bed.log.said if said[0] in (events.INTERNAL_ERROR, events.STATE_PROBLEM)]
        assert faults == []


async def until(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(lambda: wait_until(condition, lambda: what, seconds=25))


async def test_a_run_is_taken_started_and_its_end_told(made: Made, tmp_path: Path) -> None:
    async with made() as side, agent_over(side, tmp_path, Plot()) as bed:
        runs = [side.create() for _ in range(3)]
        await until(lambda: all(side.state(run) is RunState.FINISHED for run in runs), "they never ended")
        await until(lambda: bed.trail.count("record: gone") == 3, "something is remembered")
        assert bed.trail.count("gate") == 3
        bed.check_that_nothing_is_held()
        for run in runs:
            assert len(set(side.nonces(run))) == 1


async def test_a_run_that_does_not_hear_that_it_was_cancelled_is_ended(made: Made, tmp_path: Path) -> None:
    plot = Plot(end=End(Cause.CANCELLED, signal=15))
    async with made() as side, agent_over(side, tmp_path, plot, lives=True) as bed:
        run = side.create()
        await until(lambda: bool(bed.lifecycle.live), "it was never launched")
        hears = bed.lifecycle.live[run].record.stops_itself
        side.begin(run)
        side.cancel(run)
        await until(lambda: side.state(run) is RunState.CANCELLED and not bed.lifecycle.live, "it never ended")
        assert plot.trail.count("stop") == 1
        assert plot.trail.count("interrupt") == (0 if hears else 1)


async def test_a_claim_that_a_killed_agent_has_left_is_given_back(made: Made, tmp_path: Path) -> None:
    async with made() as side:
        run = await due(side, side.create())
        record = record_of(side, run, side.backend.nonce())
        assert await side.backend.claim(run, record.nonce) is Claim.OURS
        async with lifecycle_bed(tmp_path) as disk:
            disk.store.save(replace(record, boot_id=boot_id()))
        async with agent_over(side, tmp_path, Plot()) as bed:
            await until(lambda: side.state(run.id) is RunState.WAITING, "it is stuck")
            await until(lambda: events.GIVEN_BACK in bed.log.events, "it is not said")
            assert bed.trail.count("gate") == 0


async def test_after_a_power_cut_a_claim_is_told_and_never_started_twice(made: Made, tmp_path: Path) -> None:
    async with made() as side:
        run = await due(side, side.create())
        record = record_of(side, run, side.backend.nonce())
        assert await side.backend.claim(run, record.nonce) is Claim.OURS
        side.begin(run.id)
        async with lifecycle_bed(tmp_path) as disk:
            disk.store.save(record)
        async with agent_over(side, tmp_path, Plot()) as bed:
            await until(lambda: side.state(run.id) is RunState.FINISHED, "its end was never told")
            assert "gate" not in bed.trail
