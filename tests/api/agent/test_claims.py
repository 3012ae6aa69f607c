"""Table T1: what a claim came to, whatever became of its answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from api.agent.bed import (
    CLAIM,
    READ_OF_A_CLAIM,
    TIMEOUT_SECONDS,
    after,
    answer_of,
    backend_bed,
    soon,
    submitted_by_another,
)
from local_agent.backends.prefect1 import states
from local_agent.backends.prefect1.claims import SETTLE_SECONDS
from local_agent.backends.prefect1.detail import detail_of
from local_agent.errors import ApiUnreachableError
from local_agent.model import Cause, Claim, CrashAction, CrashPolicy, End
from support.api import Api
from support.faults import FaultyProxy, passed_on
from support.samples import NONCE


async def test_a_claim_carries_the_nonce_and_wraps_the_waiting_state(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        assert await bed.backend.claim(run, NONCE) is Claim.OURS
        submitted = api.states(run.id)[-1]
        assert submitted["type"] == "Submitted"
        assert states.nonce_of(submitted) == NONCE
        assert submitted["state"]["start_time"] == detail_of(run).state["start_time"]


async def test_a_lost_answer_of_a_claim_that_was_done(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        proxy.lose_answer(CLAIM)
        assert await bed.backend.claim(run, NONCE) is Claim.OURS
        assert bed.nonces(run.id) == [NONCE]


async def test_a_claim_that_never_arrived_is_sent_again_with_the_same_nonce(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        proxy.refuse(CLAIM, times=2)
        assert await bed.backend.claim(run, NONCE) is Claim.OURS
        assert bed.nonces(run.id) == [NONCE]
        assert bed.clock.slept.count(TIMEOUT_SECONDS) == 2, "each time after it could land no more"


async def test_a_late_landing_of_the_first_claim_is_harmless(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy, request_timeout_seconds=1.0) as bed:
        run = await bed.new_run()
        held, release = proxy.hold(CLAIM)
        assert await bed.backend.claim(run, NONCE) is Claim.OURS
        release.set()
        await soon(held.wait_until_finished)
        assert bed.nonces(run.id) == [NONCE]
        assert await bed.backend.claimed(bed.record_of(run)) is Claim.OURS


async def test_a_claim_that_lands_in_time_is_not_sent_again(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy, request_timeout_seconds=1.0) as bed:
        run = await bed.new_run()
        held, release = proxy.hold(CLAIM)

        async def land() -> None:
            release.set()
            await soon(held.wait_until_finished)

        bed.meanwhile(1.0, land)
        assert await bed.backend.claim(run, NONCE) is Claim.OURS
        assert bed.nonces(run.id) == [NONCE]
        assert proxy.count(CLAIM) == 1


async def test_another_agent_was_first(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        api.set_state(run.id, submitted_by_another(run))
        assert await bed.backend.claim(run, NONCE) is Claim.LOST
        assert bed.nonces(run.id) == ["of another agent"]


async def test_an_agent_without_nonces_was_first(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        api.set_state(run.id, "Submitted")
        assert await bed.backend.claim(run, NONCE) is Claim.LOST


async def test_the_lock_of_a_give_back(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        api.set_state(run.id, submitted_by_another(run))
        api.set_state(run.id, states.scheduled(run.due, "Given back"))
        assert await bed.backend.claim(run, NONCE) is Claim.LATER
        assert bed.nonces(run.id) == ["of another agent"]


async def test_a_run_that_cloud_keeps_waiting(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        proxy.add(answer_of({"s0": {"states": [{"id": run.id, "status": "QUEUED", "message": "full"}]}}), CLAIM)
        assert await bed.backend.claim(run, NONCE) is Claim.LATER


async def test_a_run_that_was_cancelled_while_it_waited_is_not_touched(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        api.cancel(run.id)
        bed.clock.advance(2)  # what was read is stale by now
        assert await bed.backend.claim(run, NONCE) is Claim.LOST
        assert api.state_types(run.id) == ["Scheduled", "Cancelled"]


async def test_a_run_that_is_cancelled_just_before_the_claim_is_cancelled_again(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        api.cancel(run.id)
        assert await bed.backend.claim(run, NONCE) is Claim.LOST
        assert api.state(run.id) == "Cancelled", "the Server lets a claim overwrite anything"


async def test_a_claim_that_lands_late_on_top_of_cancelled_is_undone(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy, request_timeout_seconds=1.0) as bed:
        run = await bed.new_run()
        held, release = proxy.hold(CLAIM)

        async def land() -> None:
            release.set()
            await soon(held.wait_until_finished)

        reads = proxy.add(after(lambda: api.cancel(run.id)), READ_OF_A_CLAIM, times=1)
        bed.meanwhile(1.0, land)
        assert await bed.backend.claim(run, NONCE) is Claim.LOST
        assert reads.hits == 1
        assert api.state_types(run.id) == ["Scheduled", "Cancelled", "Submitted", "Cancelled"]


async def test_a_claim_that_lands_between_two_looks_at_cancelled_is_undone(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy, request_timeout_seconds=1.0) as bed:
        run = await bed.new_run()
        held, release = proxy.hold(CLAIM)

        def land() -> None:
            release.set()
            held.wait_until_finished()

        proxy.add(after(land), READ_OF_A_CLAIM, times=1)  # the second look, as the newest rule is used up first
        proxy.add(after(lambda: api.cancel(run.id)), READ_OF_A_CLAIM, times=1)
        assert await bed.backend.claim(run, NONCE) is Claim.LOST
        assert api.state_types(run.id) == ["Scheduled", "Cancelled", "Submitted", "Cancelled"]


async def test_a_deleted_run(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        api.delete_flow_run(run.id)
        assert await bed.backend.claim(run, NONCE) is Claim.LOST


async def test_while_reads_fail_it_asks_again_and_decides_nothing(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        proxy.lose_answer(CLAIM)
        reads = proxy.answer(500, READ_OF_A_CLAIM, times=5)
        proxy.answer_errors("database is locked", READ_OF_A_CLAIM, times=2)
        assert await bed.backend.claim(run, NONCE) is Claim.OURS
        assert reads.hits == 5
        assert proxy.count(CLAIM) == 1


async def test_before_a_claim_is_sent_an_outage_is_no_reason_to_insist(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        bed.clock.advance(2)
        proxy.answer(503, READ_OF_A_CLAIM)
        assert await bed.backend.claim(run, NONCE) is Claim.LATER
        assert proxy.count(CLAIM) == 0


async def test_runs_that_come_due_together_share_a_request_and_none_hides_anothers_answer(
    api: Api, proxy: FaultyProxy
) -> None:
    async with backend_bed(api, proxy) as bed:
        bed.create(10)
        runs = list((await bed.due()).values())
        api.set_state(runs[3].id, submitted_by_another(runs[3]))
        claims = await asyncio.gather(*(bed.backend.claim(run, f"{NONCE}-{run.id}") for run in runs))
        assert [claim is Claim.OURS for claim in claims] == [run is not runs[3] for run in runs]
        assert proxy.count(CLAIM) == 1
        assert proxy.count(READ_OF_A_CLAIM) == 1
        assert bed.nonces(runs[9].id) == [f"{NONCE}-{runs[9].id}"]


async def test_claims_of_an_earlier_life(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        _, ours = await bed.claimed_run()
        taken = await bed.new_run()
        lost = bed.record_of(taken)
        api.set_state(lost.id, submitted_by_another(taken))
        running = (await bed.claimed_run())[1]
        api.set_state(running.id, "Running")
        cancelled = bed.record_of(await bed.new_run())
        api.cancel(cancelled.id)
        deleted = bed.record_of(await bed.new_run())
        api.delete_flow_run(deleted.id)
        records = (ours, lost, running, cancelled, deleted)
        claims = await asyncio.gather(*(bed.backend.claimed(record) for record in records))
        assert claims == [Claim.OURS, Claim.LOST, Claim.LOST, Claim.LOST, Claim.LOST]


async def test_a_claim_of_an_earlier_life_may_land_until_its_request_has_timed_out(
    api: Api, proxy: FaultyProxy
) -> None:
    async with backend_bed(api, proxy) as bed:
        lands, never = await bed.new_run(), await bed.new_run()

        async def land() -> None:
            api.set_state(lands.id, states.submitted(detail_of(lands).state, NONCE))

        bed.meanwhile(TIMEOUT_SECONDS, land)
        assert await bed.backend.claimed(bed.record_of(lands)) is Claim.OURS
        record = bed.record_of(never)
        assert await bed.backend.claimed(record) is Claim.LOST
        assert bed.clock.now() - record.claimed_at >= timedelta(seconds=TIMEOUT_SECONDS)


async def test_a_claim_of_an_earlier_life_that_landed_on_cancelled_is_undone(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        api.cancel(run.id)
        api.set_state(run.id, states.submitted(detail_of(run).state, NONCE))
        assert await bed.backend.claimed(bed.record_of(run)) is Claim.LOST
        assert api.state_types(run.id) == ["Scheduled", "Cancelled", "Submitted", "Cancelled"]


@pytest.mark.parametrize("lost", ["question", "answer"])
async def test_what_a_claim_overwrote_is_put_back_until_it_is_there(api: Api, proxy: FaultyProxy, lost: str) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        api.cancel(run.id)

        def lose() -> None:
            proxy.refuse(CLAIM, times=2) if lost == "question" else proxy.lose_answer(CLAIM)

        proxy.add(after(lose), READ_OF_A_CLAIM, times=1)
        assert await bed.backend.claim(run, NONCE) is Claim.LOST
        assert api.state_types(run.id) == ["Scheduled", "Cancelled", "Submitted", "Cancelled"]


@pytest.mark.parametrize("check", ["auto", "always"])
async def test_without_a_lock_the_first_claim_counts(lockless: Api, lockless_proxy: FaultyProxy, check: str) -> None:
    async with backend_bed(lockless, lockless_proxy, claim_check=check) as bed:
        first, second = await bed.new_run(), await bed.new_run()
        lockless.set_state(second.id, submitted_by_another(second))

        async def rival() -> None:
            lockless.set_state(first.id, submitted_by_another(first))

        bed.meanwhile(SETTLE_SECONDS, rival)
        claims = await asyncio.gather(*(bed.backend.claim(run, NONCE) for run in (first, second)))
        assert claims == [Claim.OURS, Claim.LOST]
        assert bed.nonces(second.id) == ["of another agent", NONCE], "nothing is put back: who was first knows it"


async def test_who_was_first_still_owns_a_run_that_a_later_claim_lies_on(
    lockless: Api, lockless_proxy: FaultyProxy
) -> None:
    async with backend_bed(lockless, lockless_proxy) as bed:
        given_back, told = await bed.claimed_run("first"), await bed.claimed_run("second")
        for run, _ in (given_back, told):
            lockless.set_state(run.id, submitted_by_another(run))
        assert (await bed.backend.give_back(given_back[1])).value == "given-back"
        end = End(Cause.EXITED, exit_code=3)
        assert (await bed.backend.report(told[1], end, CrashPolicy(CrashAction.FAIL))).value == "reported"
        assert (lockless.state(given_back[0].id), lockless.state(told[0].id)) == ("Scheduled", "Failed")


async def test_an_agent_of_another_kind_that_claims_before_the_check_has_it(
    lockless: Api, lockless_proxy: FaultyProxy
) -> None:
    """It reads nothing back. From then on this agent waits before its check."""
    async with backend_bed(lockless, lockless_proxy) as bed:
        before, during = await bed.new_run(), await bed.new_run()
        lockless.set_state(before.id, "Submitted")
        assert await bed.backend.claim(before, NONCE) is Claim.LOST

        async def rival() -> None:
            lockless.set_state(during.id, "Submitted")

        bed.meanwhile(SETTLE_SECONDS, rival)
        assert await bed.backend.claim(during, NONCE) is Claim.LOST
        assert bed.nonces(during.id) == [NONCE, ""]


async def test_one_agent_alone_waits_for_nothing(lockless: Api, lockless_proxy: FaultyProxy) -> None:
    async with backend_bed(lockless, lockless_proxy) as bed:
        run = await bed.new_run()
        assert await bed.backend.claim(run, NONCE) is Claim.OURS
        assert bed.clock.slept == []


async def test_without_a_lock_a_rival_that_runs_already_is_made_to_run_again(
    lockless: Api, lockless_proxy: FaultyProxy
) -> None:
    async with backend_bed(lockless, lockless_proxy) as bed:
        run = await bed.new_run()
        lockless.set_state(run.id, submitted_by_another(run))
        lockless.set_state(run.id, "Running")
        assert await bed.backend.claim(run, NONCE) is Claim.LOST
        assert lockless.state_types(run.id) == ["Scheduled", "Submitted", "Running", "Submitted", "Running"]


async def test_what_a_run_came_to_in_the_moment_in_which_it_was_made_to_run_again_counts(
    lockless: Api, lockless_proxy: FaultyProxy
) -> None:
    async with backend_bed(lockless, lockless_proxy) as bed:
        run = await bed.new_run()
        lockless.set_state(run.id, submitted_by_another(run))
        lockless.set_state(run.id, "Running")
        lockless_proxy.add(after(lambda: lockless.set_state(run.id, "Success")), CLAIM, times=1)
        lockless_proxy.add(passed_on, CLAIM, times=1)  # the claim itself, as the newest rule is used up first
        assert await bed.backend.claim(run, NONCE) is Claim.LOST
        assert lockless.state_types(run.id)[3:] == ["Submitted", "Success", "Running", "Success"]


async def test_an_end_that_a_late_claim_hides_is_set_again_by_who_ran_it(
    lockless: Api, lockless_proxy: FaultyProxy
) -> None:
    """Its process told the API of its end. Read as Submitted, it would be failed: it never reported."""
    async with backend_bed(lockless, lockless_proxy) as bed:
        run, record = await bed.claimed_run()
        for state in ("Running", "Success", submitted_by_another(run)):
            lockless.set_state(run.id, state)
        end = End(Cause.EXITED, exit_code=0)
        assert (await bed.backend.report(record, end, CrashPolicy(CrashAction.FAIL))).value == "nothing-to-say"
        assert lockless.state_types(run.id)[2:] == ["Running", "Success", "Submitted", "Success"]


async def test_a_run_that_is_given_back_waits_out_the_servers_lock(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        outcome = await bed.backend.give_back(record)
        assert outcome.value == "given-back"
        state = api.states(run.id)[-1]
        assert state["type"] == "Scheduled"
        waits = datetime.fromisoformat(state["start_time"]) - record.claimed_at
        assert abs(waits - timedelta(seconds=31)) < timedelta(seconds=1.5), "counted from when the API has set it"


async def test_a_run_is_not_given_back_before_it_is_due(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        due = record.claimed_at + timedelta(hours=1)
        await bed.backend.give_back(replace(record, due=due))
        assert api.states(run.id)[-1]["start_time"] == due.isoformat()


async def test_a_run_that_is_anothers_by_now_is_not_given_back(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        for state in ("Cancelled", "Running", "Success"):
            run, record = await bed.claimed_run()
            api.set_state(run.id, state)
            assert (await bed.backend.give_back(record)).value == "not-ours"
            assert api.state(run.id) == state


async def test_a_give_back_whose_answer_was_lost_is_done_once(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        proxy.lose_answer(CLAIM)
        with pytest.raises(ApiUnreachableError):
            await bed.backend.give_back(record)
        await bed.backend.give_back(record)
        assert api.state_types(run.id) == ["Scheduled", "Submitted", "Scheduled"]
