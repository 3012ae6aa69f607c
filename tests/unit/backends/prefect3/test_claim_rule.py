"""Table T1, row by row, and what lies beneath a claim, for histories in any order of arrival."""

from __future__ import annotations

from itertools import permutations

import pytest

from local_agent.backends.prefect3.claim_rule import Said, again, beneath, is_held, judged, owner
from local_agent.backends.prefect3.parse import Status, Verdict, history
from local_agent.backends.prefect3.states import Kind, State
from unit.backends.prefect3.samples import OURS, THEIRS, state, state_json

_ANOTHERS = state("PENDING", nonce=THEIRS)
_HELD = state("PENDING", nonce=OURS)


@pytest.mark.parametrize(
    ("status", "stands_at", "said"),
    [
        (Status.ACCEPT, _HELD, Said.OURS),
        (Status.REJECT, _HELD, Said.OURS),  # it was made before, and the answer was lost
        (Status.ABORT, _ANOTHERS, Said.LOST),
        (Status.ABORT, state("RUNNING"), Said.LOST),
        (Status.ABORT, state("CANCELLED"), Said.LOST),
        (Status.REJECT, state("SCHEDULED", name="AwaitingConcurrencySlot"), Said.LOST),
        (Status.REJECT, state("CANCELLED"), Said.LOST),
        (Status.REJECT, state("CANCELLING"), Said.LOST),
        (Status.REJECT, state("PAUSED"), Said.LOST),
        (Status.WAIT, state("SCHEDULED"), Said.LOST),
        (Status.ABORT, State(Kind.UNKNOWN), Said.UNKNOWN),  # the server's own error in a bulk
    ],
)
def test_each_answer(status: Status, stands_at: State, said: Said) -> None:
    assert judged(Verdict(status, stands_at), OURS) is said


def test_a_run_that_the_api_leaves_out_is_lost() -> None:
    assert judged(None, OURS) is Said.LOST


def test_what_is_held() -> None:
    assert is_held(_HELD, OURS)
    assert not is_held(_ANOTHERS, OURS)
    assert not is_held(state("CRASHED", nonce=OURS), OURS)


def test_a_claim_over_a_waiting_run_has_nothing_beneath() -> None:
    assert beneath([state("SCHEDULED"), _HELD], OURS) is None
    assert beneath([_HELD], OURS) is None


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_anothers_end_is_put_back_in_whatever_order_the_requests_came(order: tuple[int, int, int]) -> None:
    theirs, crashed, ours = order
    rows = [
        state_json("SCHEDULED", -1),
        state_json("PENDING", theirs, THEIRS),
        state_json("CRASHED", crashed, message="theirs"),
        state_json("PENDING", ours, OURS),
    ]
    found = beneath(history(rows), OURS)
    assert found is not None
    assert found.nonce == THEIRS
    assert (found.restore["type"], found.restore["message"]) == ("CRASHED", "theirs")


def test_where_the_other_has_not_ended_its_claim_is_put_back() -> None:
    found = beneath([state("SCHEDULED"), _ANOTHERS, _HELD], OURS)
    assert found is not None
    assert found.restore["state_details"]["transition_id"].replace("-", "") == THEIRS


def test_what_came_before_the_run_waited_does_not_count() -> None:
    past = [state("SCHEDULED"), _ANOTHERS, state("CRASHED"), state("SCHEDULED", name="AwaitingRetry"), _HELD]
    assert beneath(past, OURS) is None


def test_prefects_own_second_pending_is_no_claim() -> None:
    submitting = state("PENDING", nonce=THEIRS, name="Submitting")
    assert beneath([state("SCHEDULED"), submitting, _HELD], OURS) is None
    assert owner([state("SCHEDULED"), _HELD, submitting]) == OURS


def test_whose_a_run_is() -> None:
    assert owner([state("SCHEDULED"), _HELD, state("RUNNING")]) == OURS
    assert owner([state("SCHEDULED"), _HELD, state("SCHEDULED"), _ANOTHERS]) == THEIRS
    assert owner([state("SCHEDULED")]) == ""


def test_a_state_is_set_again_with_its_result_and_without_its_id() -> None:
    completed = state("COMPLETED", data={"type": "unpersisted"})
    assert again(completed)["data"] == {"type": "unpersisted"}
    assert not {"id", "timestamp"} & again(completed).keys()
