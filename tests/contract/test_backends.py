"""What `Backend` promises, asked of every kind of API."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import replace

import pytest

from contract.side import Fault, Made, Side, due, record_of
from local_agent.agent.kinship import AllBut
from local_agent.errors import ApiUnreachableError, CredentialError, UnavailableError
from local_agent.limits import Limits
from local_agent.model import Cause, Claim, CrashAction, CrashPolicy, End, FlowRun, Outcome, Record, RunState, Step
from local_agent.settings.limits import parse_hints
from local_agent.store.record_format import lines_of, record_in
from support.api_client import wait_until

_FAIL, _LEAVE = CrashPolicy(CrashAction.FAIL), CrashPolicy(CrashAction.LEAVE)
_RESCHEDULE = CrashPolicy(CrashAction.RESCHEDULE, 1)
_KILLED = End(Cause.SIGNALLED, signal=9)
_CLEAN = End(Cause.EXITED, exit_code=0)
_LINE = "a line of the agent's"
_MAX_REQUESTS = 30  # that one call may take


async def _claimed(side: Side) -> tuple[FlowRun, Record]:
    """Claim a run as the core does; return it with its record, as it comes back from the disk."""
    run = await due(side, side.create())
    record = record_in(lines_of(record_of(side, run, side.backend.nonce())))
    assert await side.backend.claim(run, record.nonce) is Claim.OURS
    return run, record


async def _running(side: Side) -> Record:
    """Claim a run whose process then says that it runs."""
    run, record = await _claimed(side)
    side.begin(run.id)
    return replace(record, step=Step.RUNNING, launcher="test")


async def _until_done(call: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Call until the API answers, as the core does."""
    for _ in range(_MAX_REQUESTS):
        with suppress(UnavailableError):
            return await call()
    raise AssertionError("it never answers")


# --- the queue


async def test_a_due_run_is_handed_out_until_it_is_known(made: Made) -> None:
    async with made() as side:
        wanted = side.create()
        run = await due(side, wanted)
        assert (run.id, bool(run.flow_name)) == (wanted, True)
        assert run.due.tzinfo is not None
        known: list[Collection[str]] = [{wanted}, AllBut()]
        for ids in known:
            page = await side.backend.due_runs(side.clock.now(), ids)
            assert wanted in page.ids
            assert page.runs == ()
        page = await side.backend.due_runs(side.clock.now(), AllBut(frozenset({wanted})))
        assert [run.id for run in page.runs] == [wanted]


async def test_what_is_asked_for_is_said_in_words(made: Made) -> None:
    async with made() as side:
        assert re.search("[a-z]", side.backend.asks_for())
        assert side.backend.trouble == ""
        assert side.backend.earlier_now().tzinfo is not None


async def test_near_misses_and_parents_take_nothing(made: Made) -> None:
    async with made() as side:
        run = await due(side, side.create())
        assert [miss.run.id for miss in await side.backend.near_misses({run.id})] == []
        assert set(await side.backend.parents([run.id])) <= {run.id}
        assert side.state(run.id) is RunState.WAITING
        assert side.backend.unsupported(run) == ""


async def test_to_connect_again_is_harmless(made: Made) -> None:
    async with made() as side:
        record = await _running(side)
        await side.backend.connect()
        assert side.state(record.id) is RunState.RUNNING


# --- the claim


async def test_a_claims_nonce_is_kept(made: Made) -> None:
    async with made() as side:
        run, record = await _claimed(side)
        assert re.fullmatch("[0-9a-f]{32}", record.nonce)
        assert list(side.nonces(run.id)) == [record.nonce]
        assert await side.backend.claimed(record) is Claim.OURS
        assert side.state(run.id) is RunState.SUBMITTED


async def test_a_claim_of_an_earlier_life_that_never_arrived_is_lost(made: Made) -> None:
    async with made() as side:
        run = await due(side, side.create())
        assert await side.backend.claimed(record_of(side, run, side.backend.nonce())) is Claim.LOST
        assert side.state(run.id) is RunState.WAITING


async def test_what_another_agent_has_is_not_taken(made: Made) -> None:
    async with made() as side:
        run = await due(side, side.create())
        side.take(run.id)
        record = record_of(side, run, side.backend.nonce())
        assert await side.backend.claim(run, record.nonce) is not Claim.OURS
        assert await side.backend.claimed(record) is not Claim.OURS
        assert await side.backend.give_back(record) is Outcome.NOT_OURS
        assert await side.backend.refuse(record, "it cannot run") is Outcome.NOT_OURS
        assert await side.backend.report(record, _KILLED, _FAIL) is Outcome.NOT_OURS
        assert side.state(run.id) is RunState.SUBMITTED


@pytest.mark.parametrize("fault", Fault)
async def test_a_claim_is_certain_whichever_request_is_spoilt(made: Made, fault: Fault) -> None:
    """Ours once and in truth, or left as it was: never both, never twice."""
    async with made() as side:
        for number in range(_MAX_REQUESTS):
            run = await due(side, side.create())
            record, before = record_of(side, run, side.backend.nonce()), side.requests
            with side.spoil(number, fault):
                claim = await side.backend.claim(run, record.nonce)
            if claim is Claim.OURS:
                assert set(side.nonces(run.id)) == {record.nonce}
                assert side.state(run.id) is RunState.SUBMITTED
            else:
                assert await side.backend.claimed(record) is not Claim.OURS
                assert side.state(run.id) is RunState.WAITING
            side.delete(run.id)
            if side.requests - before <= number:
                assert claim is Claim.OURS, "nothing was spoilt"
                return
        raise AssertionError("a claim takes too many requests")


# --- the child


async def test_a_child_can_be_started_and_its_limits_read(made: Made) -> None:
    async with made() as side:
        run, _ = await _claimed(side)
        child = await side.backend.child(run)
        assert child.argv
        assert all(isinstance(text, str) and "\0" not in name + text for name, text in child.env.items())
        assert "NOTIFY_SOCKET" not in child.env
        assert child.working_dir is None or child.working_dir.is_absolute()
        _, problems = parse_hints(child.asked, Limits(), Limits())
        assert problems == ()


# --- giving back, refusing, reporting: certain, idempotent, whichever request is spoilt


async def _give_back(side: Side, record: Record) -> Outcome:
    return await side.backend.give_back(record)


async def _refuse(side: Side, record: Record) -> Outcome:
    return await side.backend.refuse(record, "it cannot run here")


async def _report(side: Side, record: Record) -> Outcome:
    return await side.backend.report(record, _KILLED, _FAIL)


_WORDS = {
    "give back": (_claimed, _give_back, RunState.WAITING),
    "refuse": (_claimed, _refuse, RunState.FINISHED),
    "report": (_claimed, _report, RunState.FINISHED),
}


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("word", _WORDS)
async def test_a_word_is_given_once_whichever_request_is_spoilt(made: Made, word: str, fault: Fault) -> None:
    arrange, give, then = _WORDS[word]
    async with made() as side:
        for number in range(_MAX_REQUESTS):
            _, record = await arrange(side)
            before = side.requests
            with side.spoil(number, fault):
                outcome = await _until_done(lambda record=record: give(side, record))  # type: ignore[misc]
            assert outcome is not Outcome.NOT_OURS
            assert side.state(record.id) is then
            taken = side.requests - before
            await _until_done(lambda record=record: give(side, record))  # type: ignore[misc]
            assert side.state(record.id) is then, "and to say so again changes nothing"
            side.delete(record.id)
            if taken <= number:
                return
        raise AssertionError(f"to {word} takes too many requests")


async def test_what_is_given_back_is_handed_out_again(made: Made) -> None:
    async with made() as side:
        run, record = await _claimed(side)
        assert await side.backend.give_back(record) is Outcome.GIVEN_BACK
        side.clock.advance(120)
        again = await due(side, run.id)
        second = record_of(side, again, side.backend.nonce())
        assert second.nonce != record.nonce
        assert await side.backend.claim(again, second.nonce) is Claim.OURS
        assert await side.backend.give_back(record) is Outcome.NOT_OURS, "an older claim's word is worth nothing now"
        assert side.state(run.id) is RunState.SUBMITTED


def _end(cause: Cause) -> End:
    return End(cause, exit_code=3, signal=9)


@pytest.mark.parametrize("policy", [_FAIL, _LEAVE, _RESCHEDULE], ids=str)
async def test_every_end_comes_to_something(made: Made, policy: CrashPolicy) -> None:
    told = {Outcome.REPORTED, Outcome.RESCHEDULED, Outcome.GIVEN_BACK}
    if policy.action is CrashAction.LEAVE:
        told.add(Outcome.NOTHING_TO_SAY)
    async with made() as side:
        records = [await _running(side) for _ in Cause]
        reports = [side.backend.report(one, _end(cause), policy) for one, cause in zip(records, Cause, strict=True)]
        for record, cause, outcome in zip(records, Cause, await asyncio.gather(*reports), strict=True):
            assert outcome in told, cause
            assert (side.state(record.id) is RunState.RUNNING) == (outcome is Outcome.NOTHING_TO_SAY), cause


async def test_a_flows_own_last_word_stands(made: Made) -> None:
    async with made() as side:
        record = await _running(side)
        side.finish(record.id)
        assert await side.backend.report(record, _CLEAN, _FAIL) is Outcome.NOTHING_TO_SAY
        assert await side.backend.report(record, _KILLED, _FAIL) is Outcome.NOTHING_TO_SAY
        assert side.state(record.id) is RunState.FINISHED


async def test_a_cancelled_run_that_was_ended_is_cancelled(made: Made) -> None:
    async with made() as side:
        record = await _running(side)
        side.cancel(record.id)
        await side.backend.report(record, End(Cause.CANCELLED, signal=15), _FAIL)
        assert side.state(record.id) is RunState.CANCELLED


async def test_a_run_that_is_gone_needs_no_word(made: Made) -> None:
    async with made() as side:
        record = await _running(side)
        side.delete(record.id)
        assert await side.backend.report(record, _KILLED, _FAIL) in (Outcome.NOT_OURS, Outcome.NOTHING_TO_SAY)
        assert side.state(record.id) is RunState.MISSING


# --- what lives


async def test_views_are_total(made: Made) -> None:
    async with made() as side:
        running, cancelled, gone = [(await _running(side)).id for _ in range(3)]
        side.cancel(cancelled)
        side.delete(gone)
        unknown = "00000000-0000-4000-8000-000000000000"
        views = await side.backend.views([running, cancelled, gone, unknown])
        assert {run_id: view.state for run_id, view in views.items()} == {
            running: RunState.RUNNING,
            cancelled: side.state(cancelled),
            gone: RunState.MISSING,
            unknown: RunState.MISSING,
        }
        assert side.state(cancelled) in (RunState.CANCELLING, RunState.CANCELLED)
        assert await side.backend.views([]) == {}


async def test_to_cancel_is_seen(made: Made) -> None:
    async with made() as side:
        record = await _running(side)
        assert await side.backend.cancel(record.id)
        views = await side.backend.views([record.id])
        assert views[record.id].state in (RunState.CANCELLING, RunState.CANCELLED)


# --- an API that is away


async def test_without_an_answer_every_call_says_so_and_works_afterwards(made: Made) -> None:
    async with made() as side:
        record = await _running(side)
        calls: list[Callable[[], Awaitable[object]]] = [
            side.backend.connect,
            lambda: side.backend.due_runs(side.clock.now(), ()),
            lambda: side.backend.views([record.id]),
            lambda: side.backend.report(record, _KILLED, _FAIL),
            lambda: side.backend.give_back(record),
            lambda: side.backend.refuse(record, "no"),
            lambda: side.backend.cancel(record.id),
        ]
        with side.away():
            for call in calls:
                with pytest.raises((ApiUnreachableError, CredentialError)):
                    await call()
        assert side.state(record.id) is RunState.RUNNING, "nothing of it was done"
        assert await side.backend.report(record, _KILLED, _FAIL) is Outcome.REPORTED


async def test_what_is_queued_holds_nothing_up_and_is_told_when_the_api_is_back(made: Made) -> None:
    async with made() as side:
        run, record = await _claimed(side)
        with side.away():
            side.backend.launched(replace(record, step=Step.RUNNING), "PID 42")
            side.backend.log(run.id, _LINE, "WARNING")
            attending = asyncio.create_task(side.backend.attend(lambda: None, lambda: None))
            await asyncio.sleep(0.05)
            assert not attending.done(), "an outage ends it"
        try:
            await asyncio.to_thread(wait_until, lambda: _LINE in side.lines(run.id), lambda: "the line never came")
        finally:
            attending.cancel()
            await asyncio.gather(attending, return_exceptions=True)
