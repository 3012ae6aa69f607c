"""Prefect 1's states, in the JSON of its own schema."""

from __future__ import annotations

import json

import pytest

from local_agent.backends.prefect1 import states
from local_agent.model import RunState
from support.clock import START

_NO_RESULT = {"__version__": "1.4.1", "type": "NoResultType"}


@pytest.mark.parametrize(
    ("names", "meaning"),
    [
        (("Scheduled", "Paused", "Queued", "Resume", "Retrying", "Pending"), RunState.WAITING),
        (("Submitted",), RunState.SUBMITTED),
        (("Running",), RunState.RUNNING),
        (("Cancelling",), RunState.CANCELLING),
        (("Cancelled",), RunState.CANCELLED),
        (("Success", "Failed", "TimedOut", "Skipped", "Mapped", "Cached", "TriggerFailed"), RunState.FINISHED),
        (("Heard-of-by-nobody", "", None), RunState.FINISHED),
    ],
)
def test_what_a_state_means_to_an_agent(names: tuple[str | None, ...], meaning: RunState) -> None:
    assert {states.meaning_of(name) for name in names} == {meaning}


def test_a_claim_wraps_the_waiting_state_and_carries_its_nonce() -> None:
    waiting = {"type": "Scheduled", "start_time": START.isoformat()}
    claim = states.submitted(waiting, "n1")
    assert claim == {
        "type": "Submitted",
        "message": "Submitted for execution",
        "context": {"local_agent_nonce": "n1"},
        "cached_inputs": {},
        "_result": _NO_RESULT,
        "state": waiting,
        "__version__": "1.4.1",
    }
    assert states.nonce_of(claim) == "n1"


def test_how_often_a_run_was_started_again_survives_every_claim() -> None:
    again = states.scheduled(START, "again", attempt=2)
    assert again["start_time"] == START.isoformat()
    assert states.attempt_of(again) == 2
    assert states.attempt_of(states.submitted(again, "n1")) == 2
    assert states.attempt_of(states.scheduled(START, "given back")) == 0


def test_a_final_state_carries_the_nonce_and_no_result() -> None:
    state = states.final("Failed", "Exited with code 3", "n1")
    assert states.nonce_of(state) == "n1"
    assert "_result" not in state, "the Server refuses null, and a result is the child's business"


@pytest.mark.parametrize("context", [None, [], "text", {}, {"local_agent_attempt": "2"}])
def test_a_strangers_context_is_no_nonce(context: object) -> None:
    assert states.nonce_of({"context": context}) == ""
    assert states.attempt_of({"context": context}) == 0
    assert states.nonce_of({}) == ""


def test_states_are_json() -> None:
    for state in (states.pending("m"), states.scheduled(START, "m"), states.final("Cancelled", "m", "n")):
        assert json.loads(json.dumps(state)) == state
