"""Table T2, row by row."""

from __future__ import annotations

import pytest

from local_agent.backends.prefect3 import end_rule, states
from local_agent.backends.prefect3.end_rule import Word, decide
from local_agent.backends.prefect3.parse import RunFacts
from local_agent.backends.prefect3.parse import state as parsed
from local_agent.backends.prefect3.states import Kind
from local_agent.model import Cause, Cost, CrashAction, CrashPolicy, End
from unit.backends.prefect3.samples import OURS, THEIRS, facts, record, state

_FAIL = CrashPolicy(CrashAction.FAIL)
_LEAVE = CrashPolicy(CrashAction.LEAVE)
_ONCE_MORE = CrashPolicy(CrashAction.RESCHEDULE, 1)
_CLEAN = End(Cause.EXITED, exit_code=0)
_KILLED = End(Cause.SIGNALLED, signal=9)
_CLAIM = state("PENDING", nonce=OURS)
_CLAIMED = (state("SCHEDULED"), _CLAIM)
_SUSPENDED = state("PAUSED", details={"pause_reschedule": True})


@pytest.mark.parametrize("end", [_CLEAN, _KILLED, End(Cause.STOPPED), End(Cause.POWER_LOST), End(Cause.DEADLINE)])
@pytest.mark.parametrize("kind", ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"])
def test_a_final_state_is_the_last_word(kind: str, end: End) -> None:
    assert decide(facts(state(kind)), _CLAIMED, record(), end, _FAIL) is Word.NOTHING


@pytest.mark.parametrize(
    ("present", "end", "word"),
    [
        (facts(_CLAIM), _CLEAN, Word.CRASHED),
        (facts(_CLAIM), _KILLED, Word.CRASHED),
        (facts(_CLAIM), End(Cause.POWER_LOST), Word.WAIT),
        (facts(state("RUNNING")), _CLEAN, Word.CRASHED),
        (facts(state("RUNNING")), _KILLED, Word.CRASHED),
        (facts(state("RUNNING")), End(Cause.POWER_LOST), Word.CRASHED),
        (facts(state("RUNNING")), End(Cause.STOPPED), Word.CANCEL),
        (facts(_CLAIM), End(Cause.CANCELLED), Word.CANCEL),
        (facts(state("CANCELLING")), _CLEAN, Word.CANCELLED),
        (facts(state("CANCELLING")), _KILLED, Word.CANCELLED),
        (facts(state("SCHEDULED")), _KILLED, Word.NOTHING),
        (facts(state("SCHEDULED"), retry_type="in_process"), _KILLED, Word.CRASHED),
        (facts(state("SCHEDULED"), retry_type="in_process"), _CLEAN, Word.CRASHED),
        (facts(_SUSPENDED), _CLEAN, Word.NOTHING),
        (facts(state("PAUSED")), _KILLED, Word.CRASHED),
        (facts(state("SOMETHING_NEW")), _KILLED, Word.NOTHING),
    ],
)
def test_what_is_said_of_a_run_that_is_not_over(present: RunFacts, end: End, word: Word) -> None:
    assert decide(present, (*_CLAIMED, present.state), record(), end, _FAIL) is word


def test_anothers_run_and_one_that_is_gone_are_not_ours() -> None:
    past = (state("SCHEDULED"), state("PENDING", nonce=THEIRS), state("RUNNING"))
    assert decide(facts(state("RUNNING")), past, record(), _KILLED, _FAIL) is Word.NOT_OURS
    assert decide(None, (), record(), _KILLED, _FAIL) is Word.NOT_OURS


def test_a_crash_forced_over_cancelling_is_cancelled() -> None:
    past = (*_CLAIMED, state("RUNNING"), state("CANCELLING"), state("CRASHED"))
    assert decide(facts(state("CRASHED")), past, record(), _KILLED, _FAIL) is Word.CANCELLED
    earlier = (state("SCHEDULED"), state("CANCELLING"), state("SCHEDULED"), _CLAIM, state("CRASHED"))
    assert decide(facts(state("CRASHED")), earlier, record(), _KILLED, _FAIL) is Word.NOTHING


def test_our_own_crash_is_known_again() -> None:
    ours = parsed(states.crashed("gone", OURS))
    assert decide(facts(ours), (), record(), _KILLED, _FAIL) is Word.SAID
    assert decide(facts(ours), (), record(), _KILLED, _ONCE_MORE) is Word.ONLY_AGAIN
    theirs = parsed(states.crashed("gone", THEIRS))
    assert decide(facts(theirs), (), record(), _KILLED, _ONCE_MORE) is Word.NOTHING


def test_a_crash_is_started_again_as_often_as_is_allowed() -> None:
    running = facts(state("RUNNING"))
    assert decide(running, _CLAIMED, record(), _KILLED, _ONCE_MORE) is Word.AGAIN
    once = state("SCHEDULED", name="AwaitingRetry", message="Ended by signal 9 (SIGKILL); started again")
    assert decide(running, (*_CLAIMED, once, _CLAIM), record(), _KILLED, _ONCE_MORE) is Word.CRASHED
    assert decide(running, _CLAIMED, record(), End(Cause.DEADLINE), _ONCE_MORE) is Word.CRASHED
    assert decide(running, _CLAIMED, record(), _KILLED, _LEAVE) is Word.NOTHING


def test_when_the_history_is_needed() -> None:
    assert not end_rule.needs_history(facts(state("COMPLETED")), record(), _FAIL)
    assert not end_rule.needs_history(facts(_CLAIM), record(), _FAIL)
    assert not end_rule.needs_history(None, record(), _ONCE_MORE)
    assert end_rule.needs_history(facts(state("CRASHED")), record(), _FAIL)
    assert end_rule.needs_history(facts(state("RUNNING")), record(), _FAIL)
    assert end_rule.needs_history(facts(_CLAIM), record(), _ONCE_MORE)


def test_a_crash_says_the_cause_what_it_used_and_the_last_lines() -> None:
    end = End(Cause.OUT_OF_MEMORY, cost=Cost(cpu_seconds=1.5), last_lines=("one", "two"))
    text = end_rule.crash_message(facts(state("RUNNING")), end)
    assert text == "Killed by the kernel: out of memory; used 1.5 s of CPU; last lines:\none\ntwo"
    text = end_rule.crash_message(facts(_CLAIM), End(Cause.EXITED, exit_code=3))
    assert text == "Exited with code 3 before the flow started"


def test_every_kind_has_a_meaning() -> None:
    assert {kind for kind in Kind if kind.is_final} == {Kind.COMPLETED, Kind.FAILED, Kind.CRASHED, Kind.CANCELLED}
    assert Kind("NEVER_HEARD_OF") is Kind.UNKNOWN
