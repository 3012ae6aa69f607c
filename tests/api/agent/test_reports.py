"""Table T2 at the API itself: what is there after an end was reported, and after a report that went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from api.agent.bed import CLAIM, READ_OF_AN_END, after, backend_bed, soon
from local_agent.backends.prefect1 import states
from local_agent.errors import ApiUnreachableError
from local_agent.model import Cause, Claim, CrashAction, CrashPolicy, End, Outcome
from support.api import Api
from support.faults import Exchange, FaultyProxy
from support.samples import NONCE

_FAIL = CrashPolicy(CrashAction.FAIL)
_CLEAN = End(Cause.EXITED, exit_code=0)
_CODE_3 = End(Cause.EXITED, exit_code=3)
_KILLED = End(Cause.SIGNALLED, signal=9)
_SECOND_LOOK_SECONDS = 2.0


async def test_a_crash_ends_the_running_task_runs_and_then_the_flow_run(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        api.set_state(run.id, "Running")
        task = api.task_runs(run.id)[0]["id"]
        api.set_task_state(task, "Running")
        assert await bed.backend.report(record, _KILLED, _FAIL) is Outcome.REPORTED
        assert api.state_types(run.id) == ["Scheduled", "Submitted", "Running", "Failed"]
        state = api.states(run.id)[-1]
        assert state["message"] == "Ended by signal 9 (SIGKILL)"
        assert api.task_runs(run.id)[0]["state"] == "Failed"
        assert proxy.count("set_task_run_states") == 1, "in one request"


async def test_a_crash_ends_hundreds_of_running_task_runs(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run(tasks=[f"task-{number}" for number in range(700)])
        api.set_state(run.id, "Running")
        running = {"type": "Running", "message": "it runs"}
        given = [{"task_run_id": task["id"], "version": None, "state": running} for task in api.task_runs(run.id)]
        api.mutate("set_task_run_states", {"states": given})
        assert await bed.backend.report(record, _KILLED, _FAIL) is Outcome.REPORTED
        assert api.state_types(run.id) == ["Scheduled", "Submitted", "Running", "Failed"]
        assert {task["state"] for task in api.task_runs(run.id)} == {"Failed"}


async def test_a_run_that_finished_by_itself_needs_one_read_and_no_write(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        api.set_state(run.id, "Success")
        proxy.reset_counters()
        assert await bed.backend.report(record, _CLEAN, _FAIL) is Outcome.NOTHING_TO_SAY
        assert proxy.requests == 1


async def test_a_run_that_waits_for_its_retry_is_left_alone(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        api.set_state(run.id, "Running")
        task = api.task_runs(run.id)[0]["id"]
        api.set_task_state(task, "Running")
        api.set_task_state(task, {"type": "Retrying", "start_time": bed.clock.now().isoformat(), "run_count": 1})
        assert await bed.backend.report(record, _CLEAN, _FAIL) is Outcome.NOTHING_TO_SAY
        assert api.state(run.id) == "Running"


async def test_cancelling_becomes_cancelled(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        api.set_state(run.id, "Running")
        assert api.cancel(run.id) == "Cancelling"
        assert await bed.backend.report(record, _CODE_3, _FAIL) is Outcome.REPORTED
        assert api.state(run.id) == "Cancelled"


async def test_another_agents_run_is_left_alone(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run("of another agent")
        api.set_state(run.id, "Running")
        record = bed.record_of(run, NONCE)
        assert await bed.backend.report(record, _KILLED, _FAIL) is Outcome.NOT_OURS
        assert api.state(run.id) == "Running"


async def test_a_run_that_lazarus_has_rescheduled_is_left_alone(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        api.set_state(run.id, states.scheduled(bed.clock.now(), "Rescheduled by a Lazarus process."))
        assert await bed.backend.report(record, _KILLED, _FAIL) is Outcome.NOTHING_TO_SAY
        assert api.state(run.id) == "Scheduled"


async def test_a_deleted_run(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        api.delete_flow_run(run.id)
        assert await bed.backend.report(record, _KILLED, _FAIL) is Outcome.NOT_OURS


async def test_a_crashed_run_is_scheduled_again_as_often_as_is_allowed(
    lockless: Api, lockless_proxy: FaultyProxy
) -> None:
    async with backend_bed(lockless, lockless_proxy) as bed:
        once = CrashPolicy(CrashAction.RESCHEDULE, 1)
        run, record = await bed.claimed_run()
        lockless.set_state(run.id, "Running")
        task = lockless.task_runs(run.id)[0]["id"]
        lockless.set_task_state(task, "Running")
        assert await bed.backend.report(record, _KILLED, once) is Outcome.RESCHEDULED
        assert lockless.task_runs(run.id)[0]["state"] == "Pending"

        bed.clock.advance(40)
        again = (await bed.due())[run.id]
        assert await bed.backend.claim(again, "second") is Claim.OURS
        assert await bed.backend.report(bed.record_of(again, "second"), _KILLED, once) is Outcome.REPORTED
        assert lockless.state_types(run.id)[2:] == ["Running", "Scheduled", "Submitted", "Failed"]


@pytest.mark.parametrize("fault", ["lost", "refused"])
async def test_a_report_whose_answer_is_lost_is_told_again_without_harm(
    api: Api, proxy: FaultyProxy, fault: str
) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        api.set_state(run.id, "Running")
        proxy.lose_answer(CLAIM) if fault == "lost" else proxy.refuse(CLAIM, times=1)
        with pytest.raises(ApiUnreachableError):
            await bed.backend.report(record, _CODE_3, _FAIL)
        assert await bed.backend.report(record, _CODE_3, _FAIL) is Outcome.REPORTED
        assert api.state_types(run.id) == ["Scheduled", "Submitted", "Running", "Failed"]


async def test_the_flows_own_success_that_landed_between_our_read_and_our_write_counts(
    api: Api, proxy: FaultyProxy
) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        api.set_state(run.id, "Running")

        def read_then_land(exchange: Exchange) -> tuple[int, str, bytes]:
            status, body = exchange.forward()
            api.set_state(run.id, {"type": "Success", "message": "All reference tasks succeeded."})
            return status, "application/json", body

        proxy.add(read_then_land, READ_OF_AN_END, times=1)
        await bed.backend.report(record, _KILLED, _FAIL)
        assert api.state_types(run.id)[2:] == ["Running", "Success", "Failed", "Success"]
        assert api.states(run.id)[-1]["message"] == "All reference tasks succeeded."


async def test_the_flows_own_success_that_lands_after_ours_counts(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        api.set_state(run.id, "Running")

        async def land() -> None:
            await soon(lambda: api.set_state(run.id, "Success"))

        bed.meanwhile(_SECOND_LOOK_SECONDS, land)
        await bed.backend.report(record, _KILLED, _FAIL)
        assert api.state_types(run.id)[2:] == ["Running", "Failed", "Success"]


@pytest.mark.parametrize("end", [_CLEAN, _KILLED], ids=["clean", "killed, so looked at again"])
async def test_ends_that_come_together_share_their_requests(api: Api, proxy: FaultyProxy, end: End) -> None:
    async with backend_bed(api, proxy) as bed:
        bed.create(20)
        runs = list((await bed.due()).values())
        records = [bed.record_of(run, f"{NONCE}-{run.id}") for run in runs]
        await asyncio.gather(*(bed.backend.claim(run, record.nonce) for run, record in zip(runs, records, strict=True)))
        proxy.reset_counters()
        outcomes = await asyncio.gather(*(bed.backend.report(record, end, _FAIL) for record in records))
        assert set(outcomes) == {Outcome.REPORTED}
        assert set(api.states_of([run.id for run in runs]).values()) == {"Failed"}
        assert proxy.requests <= (4 if end.is_clean else 7)


async def test_what_cannot_be_launched_is_refused_with_a_reason(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        assert await bed.backend.refuse(record, "Flow run x has a nonexistent `working_dir`") is Outcome.REPORTED
        state = api.states(run.id)[-1]
        assert (state["type"], state["message"]) == ("Failed", "Flow run x has a nonexistent `working_dir`")


async def test_a_run_that_is_anothers_by_now_is_not_refused(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        api.cancel(run.id)
        assert await bed.backend.refuse(record, "there is no such folder") is Outcome.NOT_OURS
        assert api.state(run.id) == "Cancelled"


async def test_a_state_that_the_api_refuses_is_said_to_its_own_run_only(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        gone, kept = (await bed.claimed_run())[1], (await bed.claimed_run())[1]
        proxy.add(after(lambda: api.delete_flow_run(gone.id)), CLAIM, times=1)
        outcomes = await asyncio.gather(
            bed.backend.report(gone, _CLEAN, _FAIL), bed.backend.report(kept, _CLEAN, _FAIL), return_exceptions=True
        )
        assert isinstance(outcomes[0], Exception)
        assert outcomes[1] is Outcome.REPORTED
        assert await bed.backend.report(gone, _CLEAN, _FAIL) is Outcome.NOT_OURS


def _refuses(words: str) -> Callable[[Exchange], tuple[int, str, bytes]]:
    """Return a fault that refuses each request as a whole in which there are these words, as a content filter does."""

    def fault(exchange: Exchange) -> tuple[int, str, bytes]:
        if words in exchange.body.decode():
            return 400, "application/json", b'{"errors": [{"message": "it has no taste"}]}'
        status, body = exchange.forward()
        return status, "application/json", body

    return fault


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        ("nothing that is in it", "Exited with code 3 before the flow started; last lines:\npoison\nlast"),
        ("poison", "Exited with code 3 before the flow started; last lines:"),
        ("Exited with", "Failed, by local-agent"),
    ],
)
async def test_a_report_that_is_refused_for_its_words_is_told_more_plainly(
    api: Api, proxy: FaultyProxy, refused: str, told: str
) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        end = End(Cause.EXITED, exit_code=3, last_lines=("poison", "last"))
        proxy.add(_refuses(refused), CLAIM)
        assert await bed.backend.report(record, end, _FAIL) is Outcome.REPORTED
        assert api.states(run.id)[-1]["message"] == told


@pytest.mark.parametrize("char", ["\xe4", "\0", "\ud800", "\x1b", "\N{WAVING HAND SIGN}", '"'])
async def test_an_end_is_told_whatever_the_flow_run_wrote_before_it(api: Api, proxy: FaultyProxy, char: str) -> None:
    async with backend_bed(api, proxy) as bed:
        run, record = await bed.claimed_run()
        end = End(
            Cause.EXITED, exit_code=3, last_lines=tuple(f"line {number} {char * 100_000}" for number in range(12))
        )
        proxy.reset_counters()
        assert await bed.backend.report(record, end, _FAIL) is Outcome.REPORTED
        assert proxy.count(CLAIM) == 1, "it is taken at once"
        assert api.states(run.id)[-1]["message"].startswith("Exited with code 3 before the flow started; last lines:\n")


async def test_one_report_that_is_refused_takes_no_words_from_the_others(api: Api, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy) as bed:
        claimed = [await bed.claimed_run() for _ in range(8)]
        proxy.add(_refuses("poison"), CLAIM)
        lines = [("poison",) if number == 3 else ("good",) for number in range(8)]
        reports = [
            bed.backend.report(record, End(Cause.EXITED, exit_code=3, last_lines=last), _FAIL)
            for (_, record), last in zip(claimed, lines, strict=True)
        ]
        assert await asyncio.gather(*reports) == [Outcome.REPORTED] * 8
        messages = [api.states(run.id)[-1]["message"] for run, _ in claimed]
        assert [message.endswith("good") for message in messages] == [number != 3 for number in range(8)]


@pytest.mark.parametrize("refused", ["poison", "Given back"])
async def test_what_else_is_told_of_a_run_is_told_more_plainly_too(api: Api, proxy: FaultyProxy, refused: str) -> None:
    async with backend_bed(api, proxy) as bed:
        proxy.add(_refuses(refused), CLAIM)
        run, record = await bed.claimed_run()
        if refused == "poison":
            assert await bed.backend.refuse(record, "no folder\npoison\ud800\0") is Outcome.REPORTED
        else:
            assert await bed.backend.give_back(record) is Outcome.GIVEN_BACK
        assert api.state(run.id) == ("Failed" if refused == "poison" else "Scheduled")
