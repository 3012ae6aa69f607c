"""What launchers promise, asked of each that can run here; and whole lifecycle of flow runs over each."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from contract.ground import Ground
from contract.launching import CHECKS, until
from local_agent.limits import Limits
from local_agent.model import Cause, Child, FlowRun, Step
from support import samples
from support.lifecycle_bed import Bed, Plot, lifecycle_bed


@pytest.mark.parametrize("name", CHECKS)
async def test_a_launcher(ground: Ground, name: str) -> None:
    await CHECKS[name](ground)


def _let_it_run(bed: Bed, ground: Ground, code: int) -> None:
    async def child(run: FlowRun) -> Child:
        return ground.child(code)

    bed.plots.child = child  # type: ignore[method-assign]  # what runs is the ground's


async def test_a_story(ground: Ground, tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path / "state", launcher=ground.launcher()) as bed:
        _let_it_run(bed, ground, 3)
        ground.let_end()
        await bed.lifecycle.execute(samples.flow_run())
        assert [(end.cause, end.exit_code) for end in bed.plot.reported] == [(Cause.EXITED, 3)]
        bed.check_that_nothing_is_held()
    assert (ground.begun, list(ground.left())) == (1, [])


async def test_a_story_that_another_life_of_the_agent_finishes(ground: Ground, tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path / "state", launcher=ground.launcher()) as bed:
        _let_it_run(bed, ground, 3)
        story = asyncio.create_task(bed.lifecycle.execute(samples.flow_run()))
        await until(lambda: ground.begun == 1)
        story.cancel()
        await asyncio.gather(story, return_exceptions=True)
        ground.lose(bed.lifecycle.live[samples.RUN_ID].process)
    plot = Plot()
    async with lifecycle_bed(tmp_path / "state", plot, launcher=ground.launcher()) as bed:
        (record,) = bed.store.load_all()[0]
        ground.let_end()
        async with asyncio.timeout(60):
            await bed.lifecycle.recover(record)
        bed.check_that_nothing_is_held()
    assert [(end.cause, end.exit_code) for end in plot.reported] == [(Cause.EXITED, 3)]
    assert (ground.begun, list(ground.left())) == (1, [])


async def test_a_story_whose_agent_dies_before_its_record_says_running(ground: Ground, tmp_path: Path) -> None:
    """The handle is lost with it. Given back, and nothing began."""
    run = await ground.launcher().launch(ground.record, ground.child(), Limits())
    ground.lose(run)
    plot = Plot()
    async with lifecycle_bed(tmp_path / "state", plot, launcher=ground.launcher()) as bed:
        bed.store.save(ground.record)
        await bed.lifecycle.recover(ground.record)
        assert "give back" in bed.trail
        bed.check_that_nothing_is_held()
    await until(ground.is_gone)
    assert (ground.begun, plot.reported) == (0, [])


async def test_a_reboot_ends_what_it_ends(ground: Ground, tmp_path: Path) -> None:
    """Only where the launcher says that flow runs outlive it is one adopted whose record is of another boot."""
    launcher = ground.launcher()
    run = await launcher.launch(ground.record, ground.child(3), Limits())
    run.open_gate()
    await until(lambda: ground.begun == 1)
    ground.lose(run)
    plot, record = Plot(), replace(ground.record, boot_id="before", step=Step.CLAIMING)
    async with lifecycle_bed(tmp_path / "state", plot, launcher=ground.launcher()) as bed:
        ground.let_end()
        async with asyncio.timeout(60):
            await bed.lifecycle.recover(record)
    expected = Cause.EXITED if launcher.outlives_reboot else Cause.POWER_LOST
    assert [end.cause for end in plot.reported] == [expected]
    await until(ground.is_gone)
