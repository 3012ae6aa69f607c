"""What only an API like the toy shows: it tells by itself what is due and what has changed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from contract.test_the_agent import agent_over, until
from contract.toy_side import Toy
from local_agent import events
from local_agent.model import Cause, End, RunState
from support.lifecycle_bed import Plot


async def test_an_agent_that_is_told_of_work_asks_then_and_no_more(tmp_path: Path) -> None:
    toy = Toy()
    async with agent_over(toy, tmp_path, Plot()) as bed:
        await until(lambda: toy.requests > 1, "it never asked")
        for _ in range(3):
            run = toy.create()
            await until(lambda run=run: toy.state(run) is RunState.FINISHED, "it never ended")  # type: ignore[misc]
        await until(lambda: bed.trail.count("record: gone") == 3, "something is remembered")
        polls = toy.polls
        await asyncio.sleep(0.5)  # its own rhythm would have asked twice by now
        assert toy.polls == polls


async def test_a_run_without_heartbeats_is_never_stale(tmp_path: Path) -> None:
    toy = Toy()
    async with agent_over(toy, tmp_path, Plot(end=End(Cause.CANCELLED)), lives=True) as bed:
        run = toy.create()
        await until(lambda: bool(bed.lifecycle.live), "it was never launched")
        toy.begin(run)
        before = toy.clock.monotonic()
        await until(lambda: toy.clock.monotonic() - before > 600, "no time passes")
        toy.delete(run)
        await until(lambda: not bed.lifecycle.live, "a run that is gone goes on")
    assert events.HEARTBEAT_SENT not in bed.log.events
    assert bed.trail.count("interrupt") == bed.trail.count("stop") == 1
