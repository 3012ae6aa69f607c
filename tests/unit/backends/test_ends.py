"""What an end comes to at the API: table T2 row by row, and whose final state counts in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from local_agent.backends.prefect1 import states
from local_agent.backends.prefect1.claim_rule import PastState
from local_agent.backends.prefect1.ends import Decision, buried_state, decide, overwritten_state
from local_agent.backends.prefect1.parse import RunFacts, TaskRunFacts
from local_agent.backends.prefect1.writer import StateChange
from local_agent.model import Cause, CrashAction, CrashPolicy, End, Outcome
from support.clock import START
from support.samples import NONCE, RUN_ID, record

_FAIL = CrashPolicy(CrashAction.FAIL)
_LEAVE = CrashPolicy(CrashAction.LEAVE)
_TWICE = CrashPolicy(CrashAction.RESCHEDULE, 2)

_CLEAN = End(Cause.EXITED, exit_code=0)
_CODE_3 = End(Cause.EXITED, exit_code=3)
_KILLED = End(Cause.SIGNALLED, signal=9)
_DEADLINE = End(Cause.DEADLINE)
_NOW = START + timedelta(minutes=5)

NOTHING, REPORTED, NOT_OURS = Outcome.NOTHING_TO_SAY, Outcome.REPORTED, Outcome.NOT_OURS


def _facts(
    state: str, tasks: Sequence[str] = (), *, nonce: str = NONCE, own_nonce: str = "", attempt: int = 0
) -> RunFacts:
    """A run as read back; `own_nonce` is what its newest state itself carries where that is not Submitted.

    `attempt` is what the claim carries: the flow's own states know nothing of it.
    """
    claim = {"type": "Submitted", "context": {"local_agent_nonce": nonce, "local_agent_attempt": attempt}}
    own = {"type": state, "context": {"local_agent_nonce": own_nonce} if own_nonce else {}}
    return RunFacts(
        id=RUN_ID,
        version=7,
        state=state,
        serialized_state=claim if state == "Submitted" else own,
        past=(PastState(2, claim),),
        task_runs=tuple(TaskRunFacts(f"task-{n}", n, {"type": kind}) for n, kind in enumerate(tasks)),
    )


def _decide(facts: RunFacts | None, end: End, policy: CrashPolicy = _FAIL, **more: Any) -> Decision:  # noqa: ANN401 - fields of many types
    return decide(facts, record(**more), end, policy, _NOW)


def _set(decision: Decision) -> list[tuple[str, str]]:
    """What is set, in its order: the id of the run or task run, and the state's type."""
    return [(change.id if change.is_task_run else "run", change.state["type"]) for change in decision.changes]


def _message(decision: Decision) -> str:
    return str(decision.changes[-1].state["message"])


@pytest.mark.parametrize("end", [_CLEAN, _CODE_3, _KILLED, _DEADLINE], ids=lambda end: str(end.cause.value))
@pytest.mark.parametrize("state", ["Success", "Failed", "TimedOut", "Cancelled", "Skipped"])
def test_finished_needs_no_word(state: str, end: End) -> None:
    assert _decide(_facts(state), end) == Decision(NOTHING)


@pytest.mark.parametrize("end", [_CLEAN, _CODE_3, _KILLED], ids=lambda end: str(end.cause.value))
@pytest.mark.parametrize("state", ["Scheduled", "Queued", "Retrying", "Paused"])
def test_rescheduled_by_somebody_needs_no_word(state: str, end: End) -> None:
    assert _decide(_facts(state), end) == Decision(NOTHING)


@pytest.mark.parametrize("state", ["Submitted", "Running", "Cancelling"])
def test_another_agents_run_is_left_alone(state: str) -> None:
    assert _decide(_facts(state, nonce="of another agent"), _KILLED) == Decision(NOT_OURS)
    assert _decide(_facts(state, nonce=""), _KILLED) == Decision(NOT_OURS)


def test_a_deleted_run_is_left_alone() -> None:
    assert _decide(None, _KILLED) == Decision(NOT_OURS)


def test_our_own_report_is_known_again_when_its_answer_was_lost() -> None:
    assert _decide(_facts("Failed", own_nonce=NONCE), _CODE_3) == Decision(REPORTED)
    assert _decide(_facts("Scheduled", own_nonce=NONCE), _CODE_3, _TWICE) == Decision(Outcome.RESCHEDULED)


@pytest.mark.parametrize(
    ("end", "kind", "message"),
    [
        (_CLEAN, "Failed", "Its process ended without ever reporting"),
        (_CODE_3, "Failed", "Exited with code 3 before the flow started"),
        (_KILLED, "Failed", "Ended by signal 9 (SIGKILL)"),
        (_DEADLINE, "TimedOut", "Ran longer than it may"),
        (End(Cause.OUT_OF_MEMORY), "Failed", "Killed by the kernel: out of memory"),
        (End(Cause.STOPPED), "Cancelled", "Stopped on this host with systemctl"),
        (End(Cause.SERVICE_STOPPED), "Failed", "Ended with the agent's service, which was stopped"),
        (End(Cause.SHUTDOWN), "Failed", "The machine was shut down"),
        (End(Cause.VANISHED), "Failed", "Its process is gone and nothing tells how it ended"),
    ],
    ids=lambda value: str(value.cause.value) if isinstance(value, End) else "",
)
def test_submitted_with_its_gate_open_is_finished(end: End, kind: str, message: str) -> None:
    decision = _decide(_facts("Submitted"), end)
    assert decision.outcome is REPORTED
    assert _set(decision) == [("run", kind)]
    assert _message(decision) == message


@pytest.mark.parametrize("policy", [_FAIL, _LEAVE, _TWICE])
def test_what_may_have_begun_before_its_time_is_started_again(policy: CrashPolicy) -> None:
    early = replace(_CLEAN, may_have_begun_early=True)
    decision = _decide(_facts("Submitted"), early, policy)
    assert decision.outcome is Outcome.RESCHEDULED
    assert _set(decision) == [("run", "Scheduled")]
    assert states.attempt_of(decision.changes[0].state) == 0, "it was no crash"
    assert "clock stood before its start time" in _message(decision)
    assert _set(_decide(_facts("Running"), early)) == [("run", "Failed")], "it did run"


def test_the_last_lines_explain_a_run_that_never_reported() -> None:
    end = End(Cause.EXITED, exit_code=1, last_lines=("Traceback", "ModuleNotFoundError: flows"))
    assert _message(_decide(_facts("Submitted"), end)) == (
        "Exited with code 1 before the flow started; last lines:\nTraceback\nModuleNotFoundError: flows"
    )
    assert _message(_decide(_facts("Running"), end)) == "Exited with code 1"


@pytest.mark.parametrize("task", ["Scheduled", "Retrying", "Paused", "Resume", "Queued", "Submitted"])
def test_running_with_a_task_that_waits_and_exit_0_is_normal(task: str) -> None:
    for policy in (_FAIL, _LEAVE, _TWICE):
        assert _decide(_facts("Running", [task]), _CLEAN, policy) == Decision(NOTHING)


def test_running_with_a_task_that_waits_and_no_exit_0_goes_by_the_policy() -> None:
    facts = _facts("Running", ["Retrying"])
    assert _set(_decide(facts, _KILLED)) == [("run", "Failed")]
    assert _decide(facts, _KILLED, _LEAVE) == Decision(NOTHING)
    assert _set(_decide(facts, _KILLED, _TWICE)) == [("run", "Scheduled")]


def test_running_with_none_that_waits_and_exit_0_is_failed() -> None:
    decision = _decide(_facts("Running", ["Running"]), _CLEAN)
    assert _set(decision) == [("task-0", "Failed"), ("run", "Failed")]
    assert _message(decision) == "Its process ended in mid-run"


@pytest.mark.parametrize(
    ("end", "kind", "task_kind"),
    [
        (_CODE_3, "Failed", "Failed"),
        (_KILLED, "Failed", "Failed"),
        (_DEADLINE, "TimedOut", "Failed"),
        (End(Cause.OUT_OF_MEMORY), "Failed", "Failed"),
        (End(Cause.STOPPED), "Cancelled", "Cancelled"),
        (End(Cause.CANCELLED), "Cancelled", "Cancelled"),
    ],
    ids=lambda value: str(value.cause.value) if isinstance(value, End) else "",
)
def test_running_task_runs_end_before_their_flow_run(end: End, kind: str, task_kind: str) -> None:
    decision = _decide(_facts("Running", ["Running", "Running"]), end)
    assert decision.outcome is REPORTED
    assert _set(decision) == [("task-0", task_kind), ("task-1", task_kind), ("run", kind)]
    assert {states.nonce_of(change.state) for change in decision.changes} == {NONCE}


@pytest.mark.parametrize("policy", [_FAIL, _LEAVE, _TWICE], ids=str)
@pytest.mark.parametrize("end", [_CLEAN, _CODE_3, _KILLED, End(Cause.CANCELLED)], ids=lambda end: str(end.cause.value))
def test_cancelling_becomes_cancelled(end: End, policy: CrashPolicy) -> None:
    decision = _decide(_facts("Cancelling", ["Running"]), end, policy)
    assert decision.outcome is REPORTED
    assert _set(decision) == [("task-0", "Cancelled"), ("run", "Cancelled")]
    assert _message(decision).startswith("Cancelled")
    assert _message(decision).count("Cancelled") == 1


@pytest.mark.parametrize("state", ["Submitted", "Running"])
@pytest.mark.parametrize("end", [_CLEAN, _CODE_3, _KILLED, _DEADLINE], ids=lambda end: str(end.cause.value))
def test_leave_says_nothing(state: str, end: End) -> None:
    assert _decide(_facts(state), end, _LEAVE) == Decision(NOTHING)


def test_leave_still_tells_of_what_somebody_here_ended() -> None:
    assert _set(_decide(_facts("Running"), End(Cause.STOPPED), _LEAVE)) == [("run", "Cancelled")]


def test_a_crashed_run_is_scheduled_again_with_its_task_runs_set_back() -> None:
    decision = _decide(_facts("Running", ["Running", "Retrying"]), _KILLED, _TWICE)
    assert decision.outcome is Outcome.RESCHEDULED
    assert _set(decision) == [("task-0", "Pending"), ("run", "Scheduled")]
    state = decision.changes[-1].state
    assert state["start_time"] == _NOW.isoformat()
    assert states.attempt_of(state) == 1
    assert decision.changes[-1].version == 7


def test_after_so_many_times_it_fails() -> None:
    for state in ("Submitted", "Running"):
        assert _set(_decide(_facts(state, attempt=1), _KILLED, _TWICE)) == [("run", "Scheduled")]
        assert _set(_decide(_facts(state, attempt=2), _KILLED, _TWICE)) == [("run", "Failed")]


def test_what_ran_too_long_would_do_so_again() -> None:
    assert _set(_decide(_facts("Running"), _DEADLINE, _TWICE)) == [("run", "TimedOut")]


@pytest.mark.parametrize("policy", [_FAIL, _LEAVE, _TWICE], ids=str)
def test_what_a_power_cut_kept_from_starting_is_started_whatever_the_policy(policy: CrashPolicy) -> None:
    decision = _decide(_facts("Submitted"), End(Cause.POWER_LOST), policy)
    assert decision.outcome is Outcome.RESCHEDULED
    assert _set(decision) == [("run", "Scheduled")]
    assert states.attempt_of(decision.changes[-1].state) == 0


def test_a_power_cut_in_mid_run_goes_by_the_policy() -> None:
    assert _set(_decide(_facts("Running"), End(Cause.POWER_LOST))) == [("run", "Failed")]
    assert _set(_decide(_facts("Running", ["Running", "Retrying"]), End(Cause.POWER_LOST)))[-1] == ("run", "Failed")


@pytest.mark.parametrize("task", ["Retrying", "Paused"])
def test_after_a_power_cut_what_only_waits_is_left_to_the_queue(task: str) -> None:
    """Its process may have ended long before, and its record come back because its removal went with the power."""
    assert _decide(_facts("Running", [task]), End(Cause.POWER_LOST)) == Decision(NOTHING)


def test_a_long_retry_is_ours_by_its_task_runs() -> None:
    decision = _decide(
        _facts("Running", ["Running"], nonce="of who ran it first"), _KILLED, ticket={"task_runs": ["task-0"]}
    )
    assert _set(decision) == [("task-0", "Failed"), ("run", "Failed")]


def test_changes_name_what_they_change() -> None:
    task, run = _decide(_facts("Running", ["Running"]), _KILLED).changes
    assert task.as_input()["states"][0].keys() == {"task_run_id", "state", "version"}
    assert run == StateChange(RUN_ID, 7, states.final("Failed", "Ended by signal 9 (SIGKILL)", NONCE))


_OURS = states.final("Failed", "Ended by signal 9 (SIGKILL)", NONCE)
_SUCCESS, _RUNNING = {"type": "Success", "message": "from the flow"}, {"type": "Running"}
_SUBMITTED = states.submitted({"type": "Scheduled"}, NONCE)
_AGAIN = states.scheduled(START, "again", nonce=NONCE)
_CANCELLED = states.final("Cancelled", "Cancelled", NONCE)


@pytest.mark.parametrize(
    ("history", "own"),
    [
        ([_OURS, _SUCCESS, _RUNNING, _SUBMITTED], _SUCCESS),
        ([_OURS, _RUNNING, _SUBMITTED], None),
        ([_SUCCESS, _OURS, _RUNNING, _SUBMITTED], None),
        ([_SUCCESS, _RUNNING, _SUBMITTED], None),
        ([_OURS, {"type": "Cancelled"}, _RUNNING, _SUBMITTED], {"type": "Cancelled"}),
        ([_OURS, {"type": "Cancelling"}, _RUNNING, _SUBMITTED], None),
        ([_OURS, _SUBMITTED, _SUCCESS], None),
        ([_SUBMITTED, _OURS, _SUCCESS], None),
        ([states.scheduled(START, "by hand"), _OURS, _SUCCESS, _SUBMITTED], None),
        ([_AGAIN, _SUCCESS, _RUNNING, _SUBMITTED], _SUCCESS),
        ([_AGAIN, {"type": "Cancelled"}, _SUBMITTED], {"type": "Cancelled"}),
        ([_AGAIN, {"type": "Cancelling"}, _RUNNING, _SUBMITTED], _CANCELLED),
        ([_AGAIN, _RUNNING, _SUBMITTED], None),
        ([], None),
    ],
    ids=[
        "under ours",
        "none",
        "on top: the flow had the last word anyway",
        "ours is not there",
        "cancelled by itself",
        "cancelling is not final",
        "of an earlier claim",
        "claimed anew",
        "somebody has started it again since",
        "it is not to run again although it succeeded",
        "nor although it was cancelled",
        "nor although it was being cancelled",
        "it is to run again",
        "empty",
    ],
)
def test_the_flows_own_final_state_counts(history: Sequence[Mapping[str, Any]], own: Mapping[str, Any] | None) -> None:
    assert overwritten_state(history, NONCE) == own


def test_a_late_running_does_not_bury_what_we_have_set() -> None:
    """A process that was killed had sent Running, which lands after its end was reported."""
    running, failed = {"type": "Running"}, states.final("Failed", "gone", NONCE)
    submitted = states.submitted({"type": "Scheduled"}, NONCE)
    assert buried_state((running, failed, submitted), NONCE) == failed
    assert buried_state((running, _AGAIN, running, submitted), NONCE) == _AGAIN
    assert buried_state((failed, running, submitted), NONCE) is None
    assert buried_state((running, submitted), NONCE) is None
    assert buried_state((running, failed, submitted), "another's nonce") is None
