"""The story of one flow run, step by step: what is on disk before, in and after each."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from local_agent import events
from local_agent.errors import LaunchError, LocalAgentError, ManagerUnreachableError, StateError
from local_agent.linux.procfs import boot_id
from local_agent.model import Cause, Child, Claim, End, Outcome, Record, Step
from support import samples
from support.clock import START
from support.lifecycle_bed import CODE_3, HANDLE, Bed, Plot, lifecycle_bed

CLEAN = End(Cause.EXITED, exit_code=0)
_NEVER_STARTED = End(Cause.NEVER_STARTED)


async def test_a_whole_story(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path) as bed:
        assert await bed.lifecycle.execute(samples.flow_run()) == 0
        assert bed.trail == [
            *("record: claiming", "claim"),
            *("launch", "record: running", "gate"),
            *("ended", "sweep", "detach", "record: ended", f"report: {Cause.EXITED.value}", "release", "record: gone"),
        ]
        bed.check_that_nothing_is_held()
        assert bed.log.events == [events.LAUNCHED, events.CRASHED]


_HOOKS = Child(("python", "hooks.py"), {}, None)


async def test_what_is_to_run_after_a_reported_end_runs_where_the_flow_run_was(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot(epilogue=_HOOKS)) as bed:
        await bed.lifecycle.execute(samples.flow_run())
        told = bed.trail.index(f"report: {Cause.EXITED.value}")
        assert bed.trail[told + 1 :] == [
            "release",
            "launch",
            "gate",
            "ended",
            "sweep",
            "release",
            "release",
            "record: gone",
        ]
        bed.check_that_nothing_is_held()


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.REPORTED])
async def test_nothing_runs_after_an_end_that_was_not_reported(tmp_path: Path, outcome: Outcome) -> None:
    async with lifecycle_bed(tmp_path, Plot(epilogue=_HOOKS, outcome=outcome)) as bed:
        await bed.lifecycle.execute(samples.flow_run())
        assert bed.trail.count("launch") == 1


async def test_hooks_that_cannot_be_run_are_said_and_hold_nothing_up(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot(epilogue=LaunchError("no such folder"))) as bed:
        await bed.lifecycle.execute(samples.flow_run())
        assert bed.trail[-2:] == ["release", "record: gone"]
        assert bed.log.events[-1] is events.STATE_PROBLEM
        bed.check_that_nothing_is_held()


async def test_it_waits_for_its_time_and_holds_no_place_meanwhile(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, limit=1) as bed:
        held: list[int] = []

        async def look(_seconds: float) -> None:
            held.append(bed.admission.held)

        bed.clock.on_sleep = look
        await bed.lifecycle.execute(samples.flow_run(due=START + timedelta(seconds=8)))
        assert bed.clock.now() > START + timedelta(seconds=8), "a child that starts early does not run"
        assert held
        assert set(held) == {0}


async def test_without_a_place_it_is_left_where_it_is(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, limit=1) as bed:
        bed.admission.hold("another")
        assert await bed.lifecycle.execute(samples.flow_run()) == 0
        assert bed.trail == []


@pytest.mark.parametrize(("claim", "seconds"), [(Claim.LOST, 0), (Claim.LATER, 30)])
async def test_a_claim_that_is_not_ours_is_forgotten(tmp_path: Path, claim: Claim, seconds: float) -> None:
    async with lifecycle_bed(tmp_path, Plot(claim=claim)) as bed:
        assert await bed.lifecycle.execute(samples.flow_run()) == seconds
        assert bed.trail == ["record: claiming", "claim", "record: gone"]
        bed.check_that_nothing_is_held()


async def test_what_cannot_be_remembered_is_not_claimed(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path) as bed:
        bed.store.is_full_for = {Step.CLAIMING}
        assert await bed.lifecycle.execute(samples.flow_run()) == 30
        assert bed.trail == []
        assert bed.log.events == [events.STATE_PROBLEM]
        bed.check_that_nothing_is_held()


async def test_a_flow_runs_own_fault_is_refused(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot(launch_error=LaunchError("no such folder"))) as bed:
        await bed.lifecycle.execute(samples.flow_run())
        assert bed.trail == ["record: claiming", "claim", "launch", "refuse", "forget", "record: gone"]
        bed.check_that_nothing_is_held()


@pytest.mark.parametrize("error", [ManagerUnreachableError("systemd says no"), StateError("disk full")])
async def test_the_machines_fault_gives_it_back(tmp_path: Path, error: LocalAgentError) -> None:
    async with lifecycle_bed(tmp_path, Plot(launch_error=error)) as bed:
        assert await bed.lifecycle.execute(samples.flow_run()) == 30
        assert bed.trail == ["record: claiming", "claim", "launch", "give back", "forget", "record: gone"]
        bed.check_that_nothing_is_held()


async def test_no_gate_opens_before_the_record_says_which_process_it_is(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path) as bed:
        bed.store.is_full_for = {Step.RUNNING}
        assert await bed.lifecycle.execute(samples.flow_run()) == 30
        assert bed.trail == ["record: claiming", "claim", "launch", "abandon", "give back", "forget", "record: gone"]
        bed.check_that_nothing_is_held()


async def test_a_full_disk_at_the_end_keeps_nobody_from_being_told(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path) as bed:
        bed.store.is_full_for = {Step.ENDED}
        await bed.lifecycle.execute(samples.flow_run())
        assert bed.trail[-3:] == ["report: exited", "release", "record: gone"]
        bed.check_that_nothing_is_held()


async def test_an_end_is_told_when_the_outage_is_over_and_the_wait_said_once(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot(report_failures=20)) as bed:
        await bed.lifecycle.execute(samples.flow_run())
        assert bed.log.events.count(events.REPORT_WAITS) == 1
        assert bed.trail.count("report: exited") == 1
        assert max(bed.clock.slept) <= 30
        bed.check_that_nothing_is_held()


async def test_an_end_that_cannot_be_told_yet_holds_no_place(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot(report_failures=3), limit=1) as bed:
        held: list[int] = []

        async def look(_seconds: float) -> None:
            held.append(bed.admission.held)

        bed.clock.on_sleep = look
        await bed.lifecycle.execute(samples.flow_run())
        assert held[-3:] == [0, 0, 0]


@pytest.mark.parametrize(("code", "early"), [(0, False), (1, True), (3, False), (127, True)])
async def test_an_end_as_without_prefect_is_told(tmp_path: Path, code: int, early: bool) -> None:
    async with lifecycle_bed(tmp_path, Plot(end=End(Cause.EXITED, exit_code=code))) as bed:
        await bed.lifecycle.execute(samples.flow_run())
        assert ("early end" in bed.trail) is early


async def test_leftovers_may_be_kept(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, leftovers="keep") as bed:
        await bed.lifecycle.execute(samples.flow_run())
        assert "sweep" not in bed.trail


async def test_a_process_that_never_passed_its_gate_is_given_back(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot(end=_NEVER_STARTED)) as bed:
        await bed.lifecycle.execute(samples.flow_run())
        assert bed.trail[-3:] == ["give back", "release", "record: gone"]


def _remembered(bed: Bed, **given: object) -> Record:
    record = replace(samples.record(boot_id=boot_id(), launcher="test", handle=HANDLE), **given)  # type: ignore[arg-type]  # fields of many types
    bed.store.save(record)
    bed.trail.clear()
    return record


async def test_after_a_restart_a_claim_that_is_ours_is_given_back(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path) as bed:
        await bed.lifecycle.recover(_remembered(bed, step=Step.CLAIMING))
        assert bed.trail == ["claimed?", "adopt", "give back", "forget", "record: gone"]
        bed.check_that_nothing_is_held()


async def test_after_a_restart_a_claim_that_is_not_ours_is_forgotten(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot(claim=Claim.LOST)) as bed:
        await bed.lifecycle.recover(_remembered(bed, step=Step.CLAIMING))
        assert bed.trail[0] == "claimed?"
        assert bed.trail[-1] == "record: gone"
        assert "give back" not in bed.trail


async def test_after_a_power_cut_a_claim_may_hide_a_run_that_had_started(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path) as bed:
        await bed.lifecycle.recover(_remembered(bed, step=Step.CLAIMING, boot_id="before", handle={}))
        assert "report: power-lost" in bed.trail
        assert "give back" not in bed.trail
        bed.check_that_nothing_is_held()


async def test_what_a_backend_gives_back_instead_of_reporting_it_is_said_to_be_given_back(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot(outcome=Outcome.GIVEN_BACK)) as bed:
        await bed.lifecycle.recover(_remembered(bed, step=Step.CLAIMING, boot_id="before", handle={}))
        assert bed.trail == ["record: ended", "report: power-lost", "forget", "record: gone"]
        assert bed.log.events == [events.GIVEN_BACK]
        bed.check_that_nothing_is_held()


@pytest.mark.parametrize("step", [Step.CLAIMING, Step.RUNNING, Step.ENDED])
async def test_a_run_of_an_api_of_another_kind_is_seen_to_its_end_and_its_record_waits(
    tmp_path: Path, step: Step
) -> None:
    async with lifecycle_bed(tmp_path) as bed:
        end = CODE_3 if step is Step.ENDED else None
        record = _remembered(bed, step=step, end=end, backend="of another kind", ticket={"its": ["own"]})
        await bed.lifecycle.recover(record)
        assert bed.log.events[-1] is events.OTHER_API
        assert not {"claimed?", "give back", "report: exited"} & {*bed.trail}
        assert bed.admission.held == 0
        ((kept,), problems) = bed.store.load_all()
        assert (kept.backend, kept.ticket, problems) == ("of another kind", {"its": ["own"]}, ())
        assert (kept.step is Step.ENDED) == (step is not Step.CLAIMING)


async def test_after_a_restart_a_live_run_is_adopted_and_counted(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, limit=1) as bed:
        await bed.lifecycle.recover(_remembered(bed))
        assert bed.trail == [
            *("adopt", "ended", "sweep", "detach", "record: ended"),
            *("report: exited", "release", "record: gone"),
        ]
        assert bed.log.events == [events.ADOPTED, events.CRASHED]
        bed.check_that_nothing_is_held()


async def test_after_a_restart_the_end_of_a_run_that_is_gone_is_told(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot(alive_after_restart=False)) as bed:
        await bed.lifecycle.recover(_remembered(bed))
        assert bed.trail == ["adopt", "record: ended", "report: exited", "forget", "record: gone"]


async def test_after_a_restart_a_run_at_its_gate_is_given_back(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot(alive_after_restart=False, end=_NEVER_STARTED)) as bed:
        await bed.lifecycle.recover(_remembered(bed))
        assert bed.trail == ["adopt", "give back", "forget", "record: gone"]


async def test_after_a_restart_a_known_end_is_told_without_looking_for_its_process(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path) as bed:
        await bed.lifecycle.recover(_remembered(bed, step=Step.ENDED, end=CODE_3))
        assert bed.trail == ["record: ended", "report: exited", "forget", "record: gone"]


async def test_a_stop_at_the_gate_leaves_the_record_to_the_next_start(tmp_path: Path) -> None:
    stuck = asyncio.Event()
    async with lifecycle_bed(tmp_path, Plot(stuck_in_launch=stuck)) as bed:
        story = asyncio.create_task(bed.lifecycle.execute(samples.flow_run()))
        await stuck.wait()
        story.cancel()
        await asyncio.gather(story, return_exceptions=True)
        assert [record.step for record in bed.store.load_all()[0]] == [Step.CLAIMING]
        assert "gate" not in bed.trail


async def test_after_a_fault_of_ours_its_record_tells_how_to_go_on(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path, Plot(faults=1)) as bed:
        with pytest.raises(RuntimeError):
            await bed.lifecycle.execute(samples.flow_run())
        bed.trail.clear()
        bed.lifecycle.let_go(samples.flow_run().id)
        assert bed.trail == ["detach"], "its descriptors do not wait for the next try"
        assert bed.admission.held == 1, "its process may live, so its place is not free"
        await bed.lifecycle.retry_from_record(samples.flow_run().id)
        assert bed.trail == [
            *("detach", "adopt", "ended", "sweep", "detach", "record: ended"),
            *("report: exited", "release", "record: gone"),
        ]
        bed.check_that_nothing_is_held()


async def test_after_a_fault_of_ours_a_run_without_a_record_needs_nothing(tmp_path: Path) -> None:
    async with lifecycle_bed(tmp_path) as bed:
        await bed.lifecycle.retry_from_record(samples.flow_run().id)
        assert bed.trail == []


@pytest.mark.parametrize(
    ("end", "due_seconds_ago", "step_seconds", "early"),
    [
        (CLEAN, 0.5, -3, True),
        (CLEAN, 0.5, 0, False),
        (CLEAN, 0.5, 3600, False),
        (CLEAN, 0.5, -0.2, False),
        (CLEAN, 7200, -3, False),
        (CLEAN, 7200, -86400, True),
        (CODE_3, 0.5, -3, False),
    ],
)
async def test_a_clock_that_is_set_back_while_a_run_starts(
    tmp_path: Path, end: End, due_seconds_ago: float, step_seconds: float, *, early: bool
) -> None:
    """What the process saw of the clock tells whether an exit code 0 without a word is no run at all."""
    async with lifecycle_bed(tmp_path, Plot(end=end)) as bed:
        bed.plot.at_the_gate = lambda: bed.clock.set_wall_clock(step_seconds)
        await bed.lifecycle.execute(samples.flow_run(due=START - timedelta(seconds=due_seconds_ago)))
        assert [one.may_have_begun_early for one in bed.plot.reported] == [early]
        bed.check_that_nothing_is_held()
