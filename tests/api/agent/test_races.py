"""What happens between a read and the write that follows it, and what lands late: no run is lost or run again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

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
from local_agent.backends.prefect1.detail import detail_of
from local_agent.errors import ApiUnreachableError
from local_agent.model import Cause, Claim, CrashAction, CrashPolicy, End, FlowRun, Outcome, Step
from support.api import Api
from support.faults import FaultyProxy
from support.samples import NONCE

_ONCE = CrashPolicy(CrashAction.RESCHEDULE, 1)
_KILLED = End(Cause.SIGNALLED, signal=9)
_CODE_3 = End(Cause.EXITED, exit_code=3)
_SECOND_LOOK_SECONDS = 2.0
_LOOKS = 5
_HISTORY = "limit: 10"


async def test_a_run_that_crashes_each_time_is_started_again_only_so_often(
    lockless: Api, lockless_proxy: FaultyProxy
) -> None:
    async with backend_bed(lockless, lockless_proxy) as bed:
        run, record = await bed.claimed_run()
        lockless.set_state(run.id, "Running")
        assert await bed.backend.report(record, _KILLED, _ONCE) is Outcome.RESCHEDULED
        bed.clock.advance(40)
        again = (await bed.due())[run.id]
        assert await bed.backend.claim(again, "second") is Claim.OURS
        lockless.set_state(run.id, "Running")
        assert await bed.backend.report(bed.record_of(again, "second"), _KILLED, _ONCE) is Outcome.REPORTED
        assert lockless.state_types(run.id)[3:] == ["Scheduled", "Submitted", "Running", "Failed"]


async def test_a_dead_processs_running_that_lands_late_does_not_keep_the_run_from_starting_again(
    api: Api, proxy: FaultyProxy
) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()

        async def land() -> None:
            await soon(lambda: api.set_state(run.id, "Running"))

        bed.meanwhile(_SECOND_LOOK_SECONDS, land)
        assert await bed.backend.report(record, _KILLED, _ONCE) is Outcome.RESCHEDULED
        assert api.state_types(run.id)[1:] == ["Submitted", "Scheduled", "Running", "Scheduled"]
        assert states.attempt_of(api.states(run.id)[-1]) == 1


@pytest.mark.parametrize(
    ("meanwhile", "end"), [("Success", "Success"), ("Cancelled", "Cancelled"), ("Cancelling", "Cancelled")]
)
async def test_what_came_just_before_a_run_was_to_start_again_counts(
    api: Api, proxy: FaultyProxy, meanwhile: str, end: str
) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        api.set_state(run.id, "Running")
        proxy.add(after(lambda: api.set_state(run.id, meanwhile)), CLAIM, times=1)
        await bed.backend.report(record, _CODE_3, _ONCE)
        assert api.state_types(run.id)[3:] == [meanwhile, "Scheduled", end]


async def test_a_run_that_is_cancelled_just_before_it_is_given_back_stays_so(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        proxy.add(after(lambda: api.cancel(run.id)), CLAIM, times=1)
        await bed.backend.give_back(record)
        assert api.state_types(run.id)[1:] == ["Submitted", "Cancelled", "Scheduled", "Cancelled"]


async def test_a_claim_that_is_accepted_and_not_to_be_seen_yet_is_not_forgotten(api: Api, proxy: FaultyProxy) -> None:
    """Reads may come from a replica that lags behind. Forgotten, the run would stay Submitted for ever."""
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        stale = {
            "id": run.id,
            "version": detail_of(run).version,
            "state": "Scheduled",
            "serialized_state": detail_of(run).state,
        }
        row = {**stale, "states": [], "recent": []}
        proxy.add(answer_of({"flow_run": [row]}), READ_OF_A_CLAIM, times=1)
        assert await bed.backend.claim(run, NONCE) is Claim.OURS
        assert bed.nonces(run.id) == [NONCE]
        assert bed.clock.slept.count(TIMEOUT_SECONDS) == 1


def _claimed_and_given_back(api: Api, run: FlowRun) -> None:
    """As an agent does that was killed before it could start the run."""
    api.set_state(run.id, submitted_by_another(run))
    start = datetime.now(UTC) + timedelta(seconds=31)
    api.set_state(run.id, states.scheduled(start, "Given back", nonce="of another agent"))


async def test_a_claim_that_was_not_seen_to_land_is_not_sent_again_where_the_run_waits_anew(
    lockless: Api, lockless_proxy: FaultyProxy
) -> None:
    """Else it would rest on what is no more: its own agent would not believe it, and nobody would run it."""
    async with backend_bed(lockless, lockless_proxy) as bed:
        run = await bed.new_run()
        lockless_proxy.lose_answer(CLAIM)
        lockless_proxy.add(after(lambda: _claimed_and_given_back(lockless, run)), READ_OF_A_CLAIM, times=1)
        assert await bed.backend.claim(run, NONCE) is Claim.LATER
        assert lockless.state_types(run.id) == ["Scheduled", "Submitted", "Submitted", "Scheduled"]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_claim_that_lands_late_where_the_run_waits_anew_is_undone(
    lockless: Api, lockless_proxy: FaultyProxy, restarted: bool
) -> None:
    async with backend_bed(lockless, lockless_proxy) as bed:
        run = await bed.new_run()
        _claimed_and_given_back(lockless, run)

        async def land() -> None:
            late = states.submitted(detail_of(run).state, NONCE)
            await soon(lambda: lockless.set_state(run.id, late))

        if restarted:
            await land()
            assert await bed.backend.claimed(bed.record_of(run)) is Claim.LOST
        else:
            lockless_proxy.refuse(CLAIM, times=1)
            bed.meanwhile(TIMEOUT_SECONDS, land)
            assert await bed.backend.claim(run, NONCE) is Claim.LOST
        assert lockless.state_types(run.id)[2:] == ["Scheduled", "Submitted", "Scheduled"]
        assert lockless.states(run.id)[-1]["message"] == "Given back"


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_claim_that_lands_late_on_another_agents_takes_nothing(
    lockless: Api, lockless_proxy: FaultyProxy, restarted: bool
) -> None:
    async with backend_bed(lockless, lockless_proxy) as bed:
        run = await bed.new_run()

        async def land() -> None:
            late = states.submitted(detail_of(run).state, NONCE)
            await soon(lambda: lockless.set_state(run.id, late))

        lockless_proxy.refuse(CLAIM, times=1)
        lockless.set_state(run.id, submitted_by_another(run))
        bed.meanwhile(TIMEOUT_SECONDS, land)
        if restarted:
            claim = await bed.backend.claimed(bed.record_of(run))
        else:
            claim = await bed.backend.claim(run, NONCE)
        assert claim is Claim.LOST
        assert bed.nonces(run.id) == ["of another agent", NONCE]


async def test_after_a_restart_nothing_is_decided_before_what_was_sent_earlier_can_land_no_more(
    lockless: Api, lockless_proxy: FaultyProxy
) -> None:
    """Given back at once, the run would be Submitted by the second copy of a claim that nobody looks after any more."""
    async with backend_bed(lockless, lockless_proxy) as bed:
        run, record = await bed.claimed_run()

        async def land() -> None:
            await soon(lambda: lockless.set_state(run.id, states.submitted(detail_of(run).state, NONCE)))

        bed.meanwhile(TIMEOUT_SECONDS, land)
        assert await bed.backend.claimed(record) is Claim.OURS
        assert (await bed.backend.give_back(record)).value == "given-back"
        assert lockless.state_types(run.id) == ["Scheduled", "Submitted", "Submitted", "Scheduled"]


async def test_after_a_restart_a_claim_that_lands_late_on_cancelled_is_undone(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run = await bed.new_run()
        api.cancel(run.id)

        async def land() -> None:
            await soon(lambda: api.set_state(run.id, states.submitted(detail_of(run).state, NONCE)))

        bed.meanwhile(TIMEOUT_SECONDS, land)
        assert await bed.backend.claimed(bed.record_of(run)) is Claim.LOST
        assert api.state_types(run.id) == ["Scheduled", "Cancelled", "Submitted", "Cancelled"]


async def test_after_a_restart_a_run_waits_until_what_was_sent_before_can_land_no_more(
    api: Api, proxy: FaultyProxy
) -> None:
    """The same Scheduled of an earlier process would else land on top of a run that has been started by then."""
    async with backend_bed(api, proxy) as bed:
        given_back, told = await bed.claimed_run("first"), await bed.claimed_run("second")
        api.set_state(told[0].id, "Running")
        long_ago = bed.clock.now() - timedelta(hours=1)
        await bed.backend.give_back(replace(given_back[1], claimed_at=long_ago))
        await bed.backend.report(replace(told[1], step=Step.ENDED, claimed_at=long_ago), _CODE_3, _ONCE)
        for run, _ in (given_back, told):
            state = api.states(run.id)[-1]
            assert state["type"] == "Scheduled"
            assert datetime.fromisoformat(state["start_time"]) >= long_ago + timedelta(hours=1, seconds=TIMEOUT_SECONDS)


async def test_a_clock_that_is_set_back_does_not_keep_a_run_waiting(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        given_back, told = await bed.claimed_run("first"), await bed.claimed_run("second")
        api.set_state(told[0].id, "Running")
        then = bed.clock.now() + timedelta(hours=1)
        await bed.backend.give_back(replace(given_back[1], claimed_at=then))
        await bed.backend.report(replace(told[1], claimed_at=then), _CODE_3, _ONCE)
        for run, _ in (given_back, told):
            assert datetime.fromisoformat(api.states(run.id)[-1]["start_time"]) < then


async def test_a_restart_whose_answer_was_lost_is_still_looked_at_again(api: Api, proxy: FaultyProxy) -> None:
    """Told again, the agent finds its own Scheduled there, and under it what had come in between."""
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        api.set_state(run.id, "Running")
        proxy.add(after(lambda: api.set_state(run.id, "Success")), CLAIM, times=1)
        proxy.refuse(_HISTORY, times=_LOOKS)
        with pytest.raises(ApiUnreachableError):
            await bed.backend.report(record, _KILLED, _ONCE)
        assert api.state(run.id) == "Scheduled"
        assert await bed.backend.report(record, _KILLED, _ONCE) is Outcome.RESCHEDULED
        assert api.state(run.id) == "Success"
