"""Ends at a real server: table T2, row by row, and that nothing is said twice."""

from __future__ import annotations

import asyncio

import pytest

from local_agent.backends.prefect3.backend import Prefect3Backend
from local_agent.errors import ApiUnreachableError
from local_agent.model import Cause, Cost, CrashAction, CrashPolicy, End, Outcome, Record
from prefect3.bed import CLEAN, FAIL, KILLED, Bed, claimed, due, record_of
from support.faults import Rule

OUT_OF_MEMORY = End(Cause.OUT_OF_MEMORY, cost=Cost(memory_peak_bytes=2**30), last_lines=("loading", "all of it"))
STOPPED = End(Cause.STOPPED)
TWICE = CrashPolicy(CrashAction.RESCHEDULE, 1)


async def _running(agent: Prefect3Backend, bed: Bed, run_id: str) -> Record:
    record = await claimed(agent, run_id)
    assert bed.server.set_state(run_id, "RUNNING")["status"] == "ACCEPT"
    return record


def _reporting(agent: Prefect3Backend, record: Record, end: End) -> asyncio.Task[Outcome]:
    return asyncio.create_task(agent.report(record, end, FAIL))


async def _until_held(rule: Rule) -> None:
    await asyncio.to_thread(rule.wait_for_hits)


async def test_a_killed_run_has_crashed_with_its_cause(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        record = await _running(agent, bed, run_id)
        assert await agent.report(record, OUT_OF_MEMORY, FAIL) is Outcome.REPORTED
        assert await agent.report(record, OUT_OF_MEMORY, FAIL) is Outcome.REPORTED
    state = bed.server.state(run_id)
    assert (state["type"], state["name"]) == ("CRASHED", "Crashed")
    assert state["message"].startswith("Killed by the kernel: out of memory (peak 1.0 GiB)")
    assert state["message"].endswith("last lines:\nloading\nall of it")
    assert bed.server.history(run_id) == ["Scheduled", "Pending", "Running", "Crashed"]


@pytest.mark.parametrize("final", ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"])
async def test_the_flows_own_word_stays(bed: Bed, final: str) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        record = await _running(agent, bed, run_id)
        bed.server.set_state(run_id, final, message="its own word")
        assert await agent.report(record, KILLED, FAIL) is Outcome.NOTHING_TO_SAY
        assert await agent.report(record, STOPPED, FAIL) is Outcome.NOTHING_TO_SAY
    assert bed.server.state(run_id)["message"] == "its own word"


async def test_a_word_that_comes_between_the_look_and_the_report_stays(bed: Bed) -> None:
    crashed, cancelled = bed.run(), bed.run()
    async with bed.agent() as agent:
        for run_id, end in ((crashed, KILLED), (cancelled, STOPPED)):
            record = await _running(agent, bed, run_id)
            rule, release = bed.proxy.hold(f"{run_id}/set_state")
            reporting = _reporting(agent, record, end)
            await _until_held(rule)
            bed.server.set_state(run_id, "COMPLETED", message="its own word")
            release.set()
            assert await reporting is Outcome.NOTHING_TO_SAY
            assert bed.server.state(run_id)["message"] == "its own word"


async def test_an_end_without_a_word_is_a_crash(bed: Bed) -> None:
    pending, running = bed.run(), bed.run()
    async with bed.agent() as agent:
        record = await claimed(agent, pending)
        assert await agent.report(record, CLEAN, FAIL) is Outcome.REPORTED
        record = await _running(agent, bed, running)
        assert await agent.report(record, CLEAN, FAIL) is Outcome.REPORTED
    assert bed.server.state(pending)["message"] == "Its process ended without ever reporting"
    assert bed.server.state(running)["message"] == "Its process ended in mid-run"


async def test_a_cancelled_run_is_cancelled_when_nothing_of_it_lives(bed: Bed) -> None:
    asked, stopped, forced = bed.run(), bed.run(), bed.run()
    async with bed.agent() as agent:
        record = await _running(agent, bed, asked)
        assert await agent.cancel(asked) == "Cancelling"
        assert await agent.report(record, KILLED, FAIL) is Outcome.REPORTED
        record = await _running(agent, bed, stopped)
        assert await agent.report(record, STOPPED, FAIL) is Outcome.REPORTED
        record = await _running(agent, bed, forced)
        await agent.cancel(forced)
        bed.server.set_state(forced, "CRASHED", force=True)  # as engines without a control channel do
        assert await agent.report(record, KILLED, FAIL) is Outcome.REPORTED
    for run_id in (asked, stopped, forced):
        assert bed.server.state(run_id)["type"] == "CANCELLED"
    assert bed.server.history(stopped)[-2:] == ["Cancelling", "Cancelled"]


async def test_a_run_cancelled_between_the_look_and_the_report_is_cancelled(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        record = await _running(agent, bed, run_id)
        rule, release = bed.proxy.hold(f"{run_id}/set_state")
        reporting = _reporting(agent, record, KILLED)
        await _until_held(rule)
        bed.server.set_state(run_id, "CANCELLING", name="Cancelling")
        release.set()
        assert await reporting is Outcome.REPORTED
    assert bed.server.state(run_id)["type"] == "CANCELLED"


async def test_a_crash_is_started_again_as_often_as_is_allowed(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        record = await _running(agent, bed, run_id)
        bed.proxy.lose_answer(f"{run_id}/set_state", times=1)
        with pytest.raises(ApiUnreachableError):
            await agent.report(record, KILLED, TWICE)
        assert await agent.report(record, KILLED, TWICE) is Outcome.RESCHEDULED
        assert bed.server.state(run_id)["name"] == "AwaitingRetry"
        record = await _running(agent, bed, run_id)
        assert await agent.report(record, KILLED, TWICE) is Outcome.REPORTED
    assert bed.server.history(run_id).count("Crashed") == 2


async def test_task_runs_do_not_stay_running(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        record = await _running(agent, bed, run_id)
        task = {"flow_run_id": run_id, "task_key": "t", "dynamic_key": "0", "state": {"type": "RUNNING"}}
        task_run = bed.server.ask("POST", "/task_runs/", task)["id"]
        await agent.report(record, KILLED, FAIL)
    assert bed.server.ask("GET", f"/task_runs/{task_run}")["state"]["type"] == "CRASHED"


async def test_what_waits_by_itself_needs_no_word(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        record = await _running(agent, bed, run_id)
        details = {"pause_reschedule": True, "pause_timeout": "2100-01-01T00:00:00Z", "pause_key": "1"}
        answer = bed.server.set_state(run_id, "PAUSED", name="Suspended", state_details=details)
        assert answer["status"] == "ACCEPT", answer
        assert await agent.report(record, CLEAN, FAIL) is Outcome.NOTHING_TO_SAY


async def test_a_retry_whose_process_is_gone_has_crashed(bed: Bed) -> None:
    """The queue never hands it out again."""
    run_id = bed.run(empirical_policy={"retries": 3, "retry_delay": 600})
    async with bed.agent() as agent:
        record = await _running(agent, bed, run_id)
        bed.server.ask("PATCH", f"/flow_runs/{run_id}", {"empirical_policy": {"retries": 3, "retry_delay": 600}})
        assert bed.server.set_state(run_id, "FAILED")["state"]["name"] == "AwaitingRetry"
        assert bed.server.run(run_id)["empirical_policy"]["retry_type"] == "in_process"
        assert await agent.report(record, KILLED, FAIL) is Outcome.REPORTED
    assert bed.server.state(run_id)["type"] == "CRASHED"


async def test_a_run_that_never_ran_waits_again_after_a_power_cut(bed: Bed) -> None:
    pending, running = bed.run(), bed.run()
    async with bed.agent() as agent:
        record = await claimed(agent, pending)
        assert await agent.report(record, End(Cause.POWER_LOST), FAIL) is Outcome.GIVEN_BACK
        assert pending in await due(agent)
        record = await _running(agent, bed, running)
        assert await agent.report(record, End(Cause.POWER_LOST), FAIL) is Outcome.REPORTED
    assert bed.server.state(running)["message"] == "The machine lost power or crashed"


async def test_anothers_run_and_one_that_is_gone_are_left_alone(bed: Bed) -> None:
    anothers, gone = bed.run(), bed.run()
    async with bed.agent() as agent:
        await _running(agent, bed, anothers)
        assert await agent.report(record_of(anothers, "0" * 32), KILLED, FAIL) is Outcome.NOT_OURS
        record = await _running(agent, bed, gone)
        bed.server.ask("DELETE", f"/flow_runs/{gone}")
        assert await agent.report(record, KILLED, FAIL) is Outcome.NOT_OURS
        assert await agent.give_back(record) is Outcome.NOT_OURS
        assert await agent.refuse(record, "no") is Outcome.NOT_OURS
    assert bed.server.state(anothers)["type"] == "RUNNING"


async def test_a_run_that_cannot_be_started_has_crashed(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        record = await claimed(agent, run_id)
        assert await agent.refuse(record, "there is no /bin/nothing") is Outcome.REPORTED
    assert bed.server.state(run_id)["message"] == "there is no /bin/nothing"


async def test_policy_may_leave_a_crash_alone(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        record = await _running(agent, bed, run_id)
        assert await agent.report(record, KILLED, CrashPolicy(CrashAction.LEAVE)) is Outcome.NOTHING_TO_SAY
    assert bed.server.state(run_id)["type"] == "RUNNING"
