"""A flow run that is Running while its task runs wait for a retry that is due: claimed by its task runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.agent.bed import TIMEOUT_SECONDS, Bed, after, backend_bed
from local_agent.backends.prefect1 import states
from local_agent.backends.prefect1.claims import SETTLE_SECONDS
from local_agent.backends.prefect1.detail import WaitingTaskRun, detail_of
from local_agent.model import Cause, Claim, CrashAction, CrashPolicy, End, FlowRun, Outcome, Step
from support.api import Api
from support.faults import FaultyProxy
from support.samples import NONCE

_CLAIM = "set_task_run_states"


def _waiting_task_runs(bed: Bed, count: int = 2, *, due_for_seconds: float = 5) -> tuple[str, list[str]]:
    """Make a flow run of whose task runs so many wait; return its id and theirs."""
    (run,) = bed.create(tasks=[f"task-{number}" for number in range(count + 1)])
    bed.api.set_state(run, "Running")
    tasks = [task["id"] for task in bed.api.task_runs(run)]
    start = datetime.now(UTC) - timedelta(seconds=due_for_seconds)
    for task in tasks[:count]:
        bed.api.set_task_state(task, "Running")
        bed.api.set_task_state(task, {"type": "Retrying", "start_time": start.isoformat(), "run_count": 2})
    return run, tasks[:count]


def _task_states(api: Api, run: FlowRun) -> dict[str, dict[str, Any]]:
    ids = {task.id for task in detail_of(run).waiting_task_runs}
    return {task["id"]: task["serialized_state"] for task in api.task_runs(run.id) if task["id"] in ids}


def _with(run: FlowRun, *tasks: WaitingTaskRun) -> FlowRun:
    """Return a run of which only these task runs are offered."""
    return replace(run, detail=replace(detail_of(run), waiting_task_runs=tasks))


async def _due_run(bed: Bed) -> FlowRun:
    run_id, tasks = _waiting_task_runs(bed)
    run = (await bed.due())[run_id]
    assert sorted(task.id for task in detail_of(run).waiting_task_runs) == sorted(tasks)
    return run


async def test_each_task_run_is_claimed_and_the_flow_run_left_alone(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        before = api.state_types(run.id)
        assert await bed.backend.claim(run, NONCE) is Claim.OURS
        for state in _task_states(api, run).values():
            assert (state["type"], states.nonce_of(state)) == ("Submitted", NONCE)
            assert (state["state"]["type"], state["state"]["run_count"]) == ("Retrying", 2)
        assert api.state_types(run.id) == before
        assert await bed.due() == {}, "nobody else is offered it"


async def test_a_task_run_that_is_just_due_is_its_own_processs_business(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        _waiting_task_runs(bed, due_for_seconds=0)
        assert await bed.due() == {}


async def test_a_mark_that_comes_later_takes_nothing(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)

        async def rival() -> None:
            for task in detail_of(run).waiting_task_runs:
                api.set_task_state(task.id, states.submitted(task.state, "of another agent"))

        bed.meanwhile(SETTLE_SECONDS, rival)
        assert await bed.backend.claim(run, NONCE) is Claim.OURS


async def test_an_agent_of_another_kind_that_took_one_of_them_meanwhile_has_it(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        task, other = detail_of(run).waiting_task_runs

        async def rival() -> None:
            api.set_task_state(task.id, "Submitted")

        bed.meanwhile(SETTLE_SECONDS, rival)
        assert await bed.backend.claim(run, NONCE) is Claim.LATER
        assert _task_states(api, run)[other.id]["type"] == "Retrying", "marked, nobody would ever be offered it again"


async def test_another_of_its_task_runs_that_somebody_else_has_marked_is_the_same_flow_run(
    api: Api, proxy: FaultyProxy
) -> None:
    """It was not offered to us any more: two processes of one flow run would run."""
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        marked, offered = detail_of(run).waiting_task_runs
        api.set_task_state(marked.id, states.submitted(marked.state, "of another agent"))
        assert await bed.backend.claim(_with(run, offered), NONCE) is Claim.LATER
        assert _task_states(api, run)[offered.id]["type"] == "Retrying"


async def test_two_agents_that_are_each_first_on_one_of_them_both_let_go(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        first, second = detail_of(run).waiting_task_runs
        api.set_task_state(first.id, states.submitted(first.state, "of another agent"))
        for task, nonce in ((first, NONCE), (second, NONCE), (second, "of another agent")):
            api.set_task_state(task.id, states.submitted(task.state, nonce))
        tasks = tuple(task.id for task in detail_of(run).waiting_task_runs)
        for nonce in (NONCE, "of another agent"):
            record = replace(bed.record_of(run, nonce), ticket={"task_runs": [*tasks]})
            assert await bed.backend.claimed(record) is Claim.LOST
        assert {state["type"] for state in _task_states(api, run).values()} == {"Retrying"}


async def test_a_mark_that_was_held_up_takes_nothing_from_who_has_started_meanwhile(
    api: Api, proxy: FaultyProxy
) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        first, second = detail_of(run).waiting_task_runs

        def rival() -> None:
            for task in (first, second):
                api.set_task_state(task.id, states.submitted(task.state, "of another agent"))
            api.set_task_state(first.id, "Running")

        proxy.add(after(rival), _CLAIM, times=1)
        assert await bed.backend.claim(run, NONCE) is Claim.LATER
        now = _task_states(api, run)
        assert (now[first.id]["type"], now[second.id]["type"]) == ("Running", "Submitted")


async def test_a_mark_on_another_agents_takes_nothing(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)

        def rival() -> None:
            for task in detail_of(run).waiting_task_runs:
                api.set_task_state(task.id, states.submitted(task.state, "of another agent"))

        proxy.add(after(rival), _CLAIM, times=1)
        assert await bed.backend.claim(run, NONCE) is Claim.LATER
        assert {state["type"] for state in _task_states(api, run).values()} == {"Submitted"}


async def test_a_long_retry_that_is_anothers_is_not_failed(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        record = bed.record_of(run)
        for task in detail_of(run).waiting_task_runs:
            api.set_task_state(task.id, states.submitted(task.state, "of another agent"))
        assert await bed.backend.refuse(record, "no") is Outcome.NOT_OURS
        assert api.state(run.id) == "Running"


async def test_one_that_was_started_since_it_was_read_is_not_marked(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        api.set_task_state(detail_of(run).waiting_task_runs[0].id, "Running")
        bed.clock.advance(2)
        assert await bed.backend.claim(run, NONCE) is Claim.LATER
        assert proxy.count(_CLAIM) == 0


async def test_marks_of_an_earlier_life_that_are_not_all_ours_are_taken_back(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        record = bed.record_of(run)
        ours, others = detail_of(run).waiting_task_runs
        api.set_task_state(ours.id, states.submitted(ours.state, NONCE))
        api.set_task_state(others.id, states.submitted(others.state, "of another agent"))
        assert await bed.backend.claimed(record) is Claim.LOST
        after = _task_states(api, run)
        assert (after[ours.id]["type"], after[others.id]["type"]) == ("Retrying", "Submitted")


async def test_a_claim_of_an_earlier_life_may_land_until_its_request_has_timed_out(
    api: Api, proxy: FaultyProxy
) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        record = bed.record_of(run)

        async def land() -> None:
            for task in detail_of(run).waiting_task_runs:
                api.set_task_state(task.id, states.submitted(task.state, NONCE))

        bed.meanwhile(TIMEOUT_SECONDS, land)
        assert await bed.backend.claimed(record) is Claim.OURS


async def test_a_lost_answer_of_a_claim_that_was_done(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        proxy.lose_answer(_CLAIM)
        assert await bed.backend.claim(run, NONCE) is Claim.OURS


async def test_a_claim_that_never_arrived_is_left_for_later(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        proxy.refuse(_CLAIM, times=1)
        assert await bed.backend.claim(run, NONCE) is Claim.LATER
        assert {state["type"] for state in _task_states(api, run).values()} == {"Retrying"}


async def test_what_is_given_back_waits_as_before(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        before = _task_states(api, run)
        assert await bed.backend.claim(run, NONCE) is Claim.OURS
        record = bed.record_of(run)
        assert await bed.backend.claimed(record) is Claim.OURS
        assert await bed.backend.give_back(record) is Outcome.GIVEN_BACK
        after = _task_states(api, run)
        for task, state in before.items():
            assert after[task]["type"] == "Retrying"
            assert after[task]["start_time"] == state["start_time"]
            assert after[task]["run_count"] == 2
        assert await bed.backend.claimed(record) is Claim.LOST


@pytest.mark.parametrize("step", [Step.CLAIMING, Step.ENDED])
async def test_one_that_the_machine_lost_power_before_is_given_back(api: Api, proxy: FaultyProxy, step: Step) -> None:
    """Also where the agent was killed once more when it was about to say so."""
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        assert await bed.backend.claim(run, NONCE) is Claim.OURS
        record = replace(bed.record_of(run), step=step, launcher="")
        outcome = await bed.backend.report(record, End(Cause.POWER_LOST), CrashPolicy(CrashAction.FAIL))
        assert outcome is Outcome.GIVEN_BACK
        assert {state["type"] for state in _task_states(api, run).values()} == {"Retrying"}
        assert api.state(run.id) == "Running"


async def test_one_that_had_been_launched_when_the_machine_lost_power_is_not(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await _due_run(bed)
        assert await bed.backend.claim(run, NONCE) is Claim.OURS
        task, _ = detail_of(run).waiting_task_runs
        api.set_task_state(task.id, "Running")
        record = replace(bed.record_of(run), step=Step.RUNNING, launcher="scope")
        outcome = await bed.backend.report(record, End(Cause.POWER_LOST), CrashPolicy(CrashAction.FAIL))
        assert outcome is Outcome.REPORTED
        assert api.state(run.id) == "Failed"
