"""Flow runs as the API has them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local_agent.backends.prefect1 import parse
from local_agent.backends.prefect1.fields import WrongFieldError
from local_agent.model import RunConfig, RunState
from support.clock import START
from support.samples import FLOW_ID, RUN_ID

TASK_RUN_ID = "8d1b6c1c-4b53-4b2f-8f0e-2f8a2c1d4e03"
_LOCAL_RUN = {"type": "LocalRun", "env": {"A": "1", "B": None, "C": 2}, "working_dir": "/srv", "labels": ["x"]}


def _row(**given: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "id": RUN_ID,
        "version": 3,
        "state": "Scheduled",
        "serialized_state": {"type": "Scheduled", "start_time": START.isoformat()},
        "scheduled_start_time": (START - timedelta(hours=1)).isoformat(),
        "run_config": _LOCAL_RUN,
        "name": "calm-otter",
        "flow": {"id": FLOW_ID, "name": "etl", "storage": {"type": "Local"}, "run_config": {"type": "UniversalRun"}},
        "task_runs": [],
        **given,
    }


def test_a_whole_run() -> None:
    run = parse.flow_run(_row(), 5.0)
    assert (run.id, run.name, run.version, run.flow_id, run.flow_name) == (RUN_ID, "calm-otter", 3, FLOW_ID, "etl")
    assert run.due == START, "a state's own start time is newer than the run's"
    assert run.run_config == RunConfig("LocalRun", {"A": "1", "B": None, "C": "2"}, "/srv")
    assert run.storage == "Local"
    assert run.read_at_seconds == 5.0
    assert not run.is_long_retry


def test_json_columns_may_come_as_text() -> None:
    texts = {key: json.dumps(_row()[key]) for key in ("serialized_state", "run_config", "flow")}
    assert parse.flow_run(_row(**texts), 5.0) == parse.flow_run(_row(), 5.0)


def test_what_a_run_lacks_is_found_elsewhere() -> None:
    flow = {"id": FLOW_ID, "storage": None, "run_config": _LOCAL_RUN}
    run = parse.flow_run(_row(run_config=None, name=None, serialized_state={"type": "Scheduled"}, flow=flow), 5.0)
    assert run.run_config.working_dir == "/srv"
    assert run.due == START - timedelta(hours=1)
    assert (run.name, run.flow_name, run.storage) == ("", "", "")


def test_a_run_without_any_time_is_due_now() -> None:
    before = datetime.now(UTC)
    run = parse.flow_run(_row(serialized_state={"type": "Scheduled"}, scheduled_start_time=None), 5.0)
    assert before <= run.due <= datetime.now(UTC)


def test_no_run_config_is_a_bare_one() -> None:
    assert parse.flow_run(_row(run_config=None, flow={"id": FLOW_ID}), 5.0).run_config == RunConfig()


def test_an_empty_working_dir_is_none() -> None:
    assert parse.flow_run(_row(run_config={"type": "LocalRun", "working_dir": ""}), 5.0).run_config.working_dir is None


def test_only_a_running_run_is_a_long_retry() -> None:
    task_runs = [{"id": TASK_RUN_ID, "version": 2, "serialized_state": {"type": "Retrying"}}]
    assert not parse.flow_run(_row(task_runs=task_runs), 5.0).is_long_retry
    run = parse.flow_run(_row(state="Running", task_runs=task_runs), 5.0)
    assert run.is_long_retry
    assert [(task.id, task.version, task.state["type"]) for task in run.waiting_task_runs] == [
        (TASK_RUN_ID, 2, "Retrying")
    ]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"id": None}, "id: missing"),
        ({"version": "x"}, "version: str where int is due"),
        ({"serialized_state": []}, "serialized_state: list where dict is due"),
        ({"serialized_state": {"start_time": "noon"}}, "serialized_state.start_time: 'noon' is no ISO 8601 time"),
        ({"flow": None}, "flow: missing"),
        ({"flow": {"id": 7}}, "flow.id: int where str is due"),
        ({"flow": {"id": FLOW_ID, "storage": {"type": 1}}}, "flow.storage.type: int where str is due"),
        (
            {"run_config": None, "flow": {"id": FLOW_ID, "run_config": {"env": []}}},
            "flow.run_config.env: list where dict is due",
        ),
        ({"run_config": {"env": "x"}}, "run_config.env: not JSON"),
        ({"run_config": {"working_dir": 1}}, "run_config.working_dir: int where str is due"),
        ({"state": "Running", "task_runs": [{"id": TASK_RUN_ID}]}, "task_runs[0].serialized_state: missing"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongFieldError) as caught:
        parse.flow_run(_row(**wrong), 5.0)
    assert str(caught.value) == words


def test_a_flows_own_run_config_may_be_broken_where_it_is_not_used() -> None:
    assert parse.flow_run(_row(flow={"id": FLOW_ID, "run_config": {"env": []}}), 5.0).run_config.kind == "LocalRun"


def _facts(state: str, context: dict[str, str], *submitted: str) -> parse.RunFacts:
    return parse.run_facts(
        {
            "id": RUN_ID,
            "state": state,
            "serialized_state": {"type": state, "context": context},
            "states": [{"serialized_state": {"context": {"local_agent_nonce": nonce}}} for nonce in submitted],
        }
    )


def test_the_newest_claim_is_in_the_state_or_in_the_history() -> None:
    assert _facts("Submitted", {"local_agent_nonce": "n2"}, "n1").newest_claim() == "n2"
    assert _facts("Running", {"local_agent_nonce": "not looked at"}, "n2", "n1").newest_claim() == "n2"
    assert _facts("Scheduled", {}).newest_claim() == ""
    assert _facts("Submitted", {}, "n1").newest_claim() == "", "somebody without a nonce"


def _claimed(*claims: tuple[str, float], waited: int = 1) -> parse.RunFacts:
    """Given nonces and the second at which each claim was set, oldest first, return a run that was claimed so.

    `waited` is the version of the waiting state before them.
    """
    states = [
        {
            "version": waited + number,
            "timestamp": f"2026-01-01T00:00:{second:06.3f}+00:00",
            "serialized_state": {
                "type": "Submitted",
                "context": {"local_agent_nonce": nonce} if nonce else {},
            },
        }
        for number, (nonce, second) in enumerate(claims, 1)
    ]
    row = {"id": RUN_ID, "state": "Submitted", "serialized_state": states[-1]["serialized_state"]}
    waiting = {"version": waited, "serialized_state": {"type": "Scheduled"}}
    return parse.run_facts({**row, "states": [*states[::-1], waiting]})


@pytest.mark.parametrize(
    ("claims", "counts"),
    [
        ([("a", 0), ("b", 2.4)], "b"),
        ([("a", 0), ("b", 2.6)], "a"),
        ([("a", 0), ("b", 2.0), ("c", 4.0)], "c"),
        ([("a", 0), ("b", 2.0), ("c", 5.0)], "b"),
        ([("a", 0), ("b", 3.0), ("c", 4.0)], "a"),
        ([("a", 0), ("a", 15.0), ("b", 16.0)], "b"),
        ([("", 0), ("b", 1.0)], ""),
        ([("a", 0), ("", 20.0)], ""),
    ],
)
def test_of_claims_upon_each_other_one_that_comes_late_does_not_count(
    claims: list[tuple[str, float]], counts: str
) -> None:
    assert _claimed(*claims).newest_claim() == counts


def test_claims_on_another_waiting_state_are_no_rivals() -> None:
    """Not even where a claim that was held up on its way wraps the waiting state that was there before."""
    earlier, later = _claimed(("b", 0), ("a", 0.1), waited=1), _claimed(("b", 6), waited=4)
    both = replace(later, submitted=later.submitted + earlier.submitted, waited=later.waited + earlier.waited)
    assert both.newest_claim() == "b"
    given_back = replace(both, state="Scheduled", submitted=earlier.submitted)
    assert given_back.newest_claim() == "a", "whose claim came last, although the run waits again"


def test_facts_have_a_meaning() -> None:
    assert _facts("Submitted", {}).meaning is RunState.SUBMITTED
    assert parse.run_facts({"id": RUN_ID, "states": []}).meaning is RunState.FINISHED, "not ours to touch"
