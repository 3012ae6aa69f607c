"""Claims at a real server: table T1, answers that are lost, and two agents on one pool."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from local_agent.backends.prefect3.backend import Prefect3Backend
from local_agent.errors import ApiUnreachableError
from local_agent.model import Claim, Outcome
from prefect3.bed import BULK, FAIL, KILLED, Bed, claimed, due, new_nonce, record_of

_RUNS = 100


async def test_a_claim_is_pending_with_the_nonce_and_who_it_was(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent("prod1 on host1") as agent:
        record = await claimed(agent, run_id)
    state = bed.server.state(run_id)
    assert state["state_details"]["transition_id"].replace("-", "") == record.nonce
    assert state["message"] == "Claimed by prod1 on host1"


async def test_another_agent_has_lost(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent("one") as one, bed.agent("two") as two:
        run = (await due(two))[run_id]
        await claimed(one, run_id)
        assert await two.claim(run, two.nonce()) is Claim.LOST
        bed.refuse_bulk()
        assert await two.claim(run, two.nonce()) is Claim.LOST


async def test_a_page_is_claimed_in_one_request(bed: Bed) -> None:
    wanted = [bed.run() for _ in range(10)]
    async with bed.agent() as agent:
        runs = [run for run_id, run in (await due(agent)).items() if run_id in wanted]
        bed.proxy.reset_counters()
        nonce = agent.nonce()
        assert set(await asyncio.gather(*(agent.claim(run, nonce) for run in runs))) == {Claim.OURS}
        assert bed.proxy.count("set_state") == 1


@pytest.mark.parametrize("in_bulk", [True, False])
async def test_lost_answers_are_asked_for_again(bed: Bed, in_bulk: bool) -> None:
    run_id = bed.run()
    if not in_bulk:
        bed.refuse_bulk()
    async with bed.agent() as agent:
        run = (await due(agent))[run_id]
        bed.proxy.lose_answer(BULK if in_bulk else f"{run_id}/set_state", times=2)
        nonce = agent.nonce()
        assert await agent.claim(run, nonce) is Claim.OURS
        assert (await agent.claimed(record_of(run_id, nonce))) is Claim.OURS
    assert bed.server.history(run_id) == ["Scheduled", "Pending"]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_not_now_is_asked_for_again(bed: Bed, status: int) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        run = (await due(agent))[run_id]
        bed.proxy.answer(status, BULK, times=2)
        assert await agent.claim(run, agent.nonce()) is Claim.OURS


async def test_a_refused_claim_waits(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        run = (await due(agent))[run_id]
        bed.proxy.answer(422, BULK, body='{"detail":"no"}', kind="application/json")
        assert await agent.claim(run, agent.nonce()) is Claim.LATER
    assert bed.server.history(run_id) == ["Scheduled"]


async def test_an_answer_that_was_lost_and_then_refused_is_read_back(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        run = (await due(agent))[run_id]
        bed.proxy.answer(422, BULK, body='{"detail":"no"}', kind="application/json")
        bed.proxy.lose_answer(BULK, times=1)
        assert await agent.claim(run, agent.nonce()) is Claim.OURS


@pytest.mark.parametrize("final", ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"])
async def test_a_run_that_another_has_ended_is_left_as_it_was(bed: Bed, final: str) -> None:
    in_bulk, by_hand = bed.run(), bed.run()
    async with bed.agent("one") as one, bed.agent("two") as two:
        runs = await due(two)
        for run_id in (in_bulk, by_hand):
            await claimed(one, run_id)
            bed.server.set_state(run_id, "RUNNING")
            bed.server.set_state(run_id, final, message="its own word")
        assert await two.claim(runs[in_bulk], two.nonce()) is Claim.LOST
        bed.refuse_bulk()
        assert await two.claim(runs[by_hand], two.nonce()) is Claim.LOST
    for run_id in (in_bulk, by_hand):
        state = bed.server.state(run_id)
        assert (state["type"], state["message"]) == (final, "its own word")
    assert bed.server.history(in_bulk)[-1] != "Pending"


async def test_a_rival_that_has_come_since_is_looked_for_before_the_launch(bed: Bed) -> None:
    """Its run may have ended between the moment at which the API looked which runs wait, and that of our claim."""
    run_id = bed.run()
    async with bed.agent("one") as one:
        run = (await due(one))[run_id]
        async with bed.agent("two") as two:
            rival = await claimed(two, run_id)
            await two.report(rival, KILLED, FAIL)
        answer = bed.server.set_state(run_id, "PENDING", state_details={"transition_id": one.nonce()})
        assert answer["status"] == "ACCEPT"
        body = json.dumps({"results": [{"flow_run_id": run_id, **answer}]})
        bed.proxy.answer(200, BULK, body=body, kind="application/json", times=1)
        assert await one._claims.claim(run.id, one.nonce()) is Claim.LOST  # however old its page is by now
    assert bed.server.state(run_id)["message"] == "Ended by signal 9 (SIGKILL)"


async def test_alone_in_its_pool_an_agent_reads_no_claim_back(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        await claimed(agent, run_id)
    assert bed.proxy.count("flow_run_states") == 0


async def test_a_run_that_is_gone_is_lost(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        run = (await due(agent))[run_id]
        bed.server.ask("DELETE", f"/flow_runs/{run_id}")
        assert await agent.claim(run, agent.nonce()) is Claim.LOST
        bed.refuse_bulk()
        assert await agent.claim(run, agent.nonce()) is Claim.LOST
        assert await agent.claimed(record_of(run_id, new_nonce())) is Claim.LOST


async def test_a_deployments_limit_is_heeded(bed: Bed) -> None:
    deployment = bed.server.create_deployment("limited", pool=bed.name, concurrency_limit=1)
    ids = [bed.server.create_run(deployment) for _ in range(2)]
    async with bed.agent() as agent:
        runs = await due(agent)
        claims = [await agent.claim(runs[run_id], agent.nonce()) for run_id in ids]
    assert claims == [Claim.OURS, Claim.LOST]
    assert bed.server.state(ids[1])["name"] == "AwaitingConcurrencySlot"


async def test_a_claim_of_an_earlier_life_is_given_back_and_taken_anew(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent("one") as one:
        record = await claimed(one, run_id)
    async with bed.agent("one") as again:
        assert await again.claimed(record) is Claim.OURS
        assert await again.give_back(record) is Outcome.GIVEN_BACK
        assert await again.give_back(record) is Outcome.GIVEN_BACK
        assert bed.server.state(run_id)["type"] == "SCHEDULED"
        assert await again.claimed(record) is Claim.LOST
        run = (await due(again))[run_id]
        assert run.due >= datetime.now(UTC) - timedelta(seconds=5), "what was asked for before may still land"
        assert await again.claim(run, again.nonce()) is Claim.OURS


async def test_a_claim_that_was_cancelled_meanwhile_is_ended(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        record = await claimed(agent, run_id)
        assert await agent.cancel(run_id) == "Cancelling"
        assert await agent.claimed(record) is Claim.OURS
        assert await agent.give_back(record) is Outcome.REPORTED
    assert bed.server.state(run_id)["type"] == "CANCELLED"


@pytest.mark.timeout(900)  # four hundred changes of a data file that is locked for each, on a machine that is busy
@pytest.mark.parametrize("in_bulk", [True, False])
async def test_of_two_agents_one_runs_each_run(bed: Bed, in_bulk: bool) -> None:
    """Each run ends at once: then the API accepts a claim over it."""
    ids = {bed.run() for _ in range(_RUNS)}
    if not in_bulk:
        bed.refuse_bulk()
    ran: Counter[str] = Counter()
    async with bed.agent("one") as one, bed.agent("two") as two:
        await asyncio.gather(_serve(one, ids, ran), _serve(two, ids, ran))
    assert ran == Counter(ids)
    assert set(bed.server.states(sorted(ids)).values()) == {"CRASHED"}


async def _serve(agent: Prefect3Backend, ids: set[str], ran: Counter[str]) -> None:
    """Claim and end whatever is due, until both agents have."""
    while len(ran) < len(ids):
        page = await agent.due_runs(datetime.now(UTC), ())
        nonce = agent.nonce()
        claims = await asyncio.gather(*(agent.claim(run, nonce) for run in page.runs))
        ours = [run.id for run, claim in zip(page.runs, claims, strict=True) if claim is Claim.OURS]
        ran.update(ours)
        await asyncio.gather(*(_report(agent, run_id, nonce) for run_id in ours))


async def _report(agent: Prefect3Backend, run_id: str, nonce: str) -> None:
    while True:
        try:
            await agent.report(record_of(run_id, nonce), KILLED, FAIL)
        except ApiUnreachableError:  # the server's data file was locked for too long
            continue
        return
