"""What servers of 3.0 and 2.20 can: the same claims and ends, one run at a time."""

from __future__ import annotations

import asyncio

import pytest

from local_agent.model import Cause, Claim, End, Outcome, RunState
from prefect3.bed import BULK, FAIL, KILLED, Bed, claimed, due
from support.prefect3_server import wait_until
from support.prefect3_venv import LAST_2, OLDEST_3

pytestmark = pytest.mark.parametrize("server", [OLDEST_3, LAST_2], indirect=True, scope="module")


async def test_a_run_is_claimed_once_and_its_crash_is_told(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent("one") as one, bed.agent("two") as two:
        run = (await due(two))[run_id]
        record = await claimed(one, run_id)
        assert await two.claim(run, two.nonce()) is Claim.LOST
        bed.server.set_state(run_id, "RUNNING")
        assert (await one.views([run_id]))[run_id].state is RunState.RUNNING
        assert await one.report(record, KILLED, FAIL) is Outcome.REPORTED
        assert await one.report(record, KILLED, FAIL) is Outcome.REPORTED
    assert bed.server.history(run_id) == ["Scheduled", "Pending", "Running", "Crashed"]
    assert bed.proxy.count(BULK) <= 2, "that the server has none is found out once by each agent"


async def test_lost_answers_are_asked_for_again(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        run = (await due(agent))[run_id]
        bed.proxy.lose_answer(f"{run_id}/set_state", times=2)
        assert await agent.claim(run, agent.nonce()) is Claim.OURS
    assert bed.server.history(run_id) == ["Scheduled", "Pending"]


async def test_a_run_that_has_ended_is_left_as_it_was(bed: Bed) -> None:
    """The server accepts a claim over a final state: it is put back."""
    run_id = bed.run()
    async with bed.agent("one") as one, bed.agent("two") as two:
        run = (await due(two))[run_id]
        await claimed(one, run_id)
        bed.server.set_state(run_id, "RUNNING")
        bed.server.set_state(run_id, "COMPLETED", message="its own word")
        nonce = two.nonce()
        assert await two._claims.claim(run.id, nonce) is Claim.LOST
    state = bed.server.state(run_id)
    assert (state["type"], state["message"]) == ("COMPLETED", "its own word")


async def test_a_run_is_given_back_and_cancelled(bed: Bed) -> None:
    back, cancelled, stopped = bed.run(), bed.run(), bed.run()
    async with bed.agent() as agent:
        record = await claimed(agent, back)
        assert await agent.give_back(record) is Outcome.GIVEN_BACK
        assert back in await due(agent)
        record = await claimed(agent, cancelled)
        assert await agent.cancel(cancelled) == "Cancelling"
        assert await agent.report(record, KILLED, FAIL) is Outcome.REPORTED
        record = await claimed(agent, stopped)
        bed.server.set_state(stopped, "RUNNING")
        assert await agent.report(record, End(Cause.STOPPED), FAIL) is Outcome.REPORTED
    assert bed.server.state(cancelled)["type"] == "CANCELLED"
    assert bed.server.history(stopped)[-2:] == ["Cancelling", "Cancelled"]


async def test_a_worker_is_seen_and_its_lines_are_too(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        attending = asyncio.create_task(agent.attend(lambda: None, lambda: None))
        record = await claimed(agent, run_id)
        agent.log(run_id, "Submitted for execution")
        agent.launched(record, "flow-run.scope")
        await asyncio.to_thread(wait_until, lambda: bed.server.logs(run_id), lambda: "no line came")
        await asyncio.to_thread(
            wait_until, lambda: bed.server.run(run_id)["infrastructure_pid"], lambda: "nobody says where it runs"
        )
        assert "prod1" in bed.server.workers(bed.name)
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)
        assert "prod1" not in bed.server.workers(bed.name)
