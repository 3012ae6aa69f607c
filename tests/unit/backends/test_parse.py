"""Flow runs as the API has them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local_agent.backends.fields import WrongFieldError
from local_agent.backends.prefect1 import parse
from local_agent.backends.prefect1.detail import Detail, RunConfig, detail_of
from local_agent.model import RunState
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


def _detail(**given: Any) -> Detail:  # noqa: ANN401 - JSON
    return detail_of(parse.flow_run(_row(**given), 5.0))


def test_a_whole_run() -> None:
    run = parse.flow_run(_row(), 5.0)
    detail = detail_of(run)
    assert (run.id, run.name, run.flow_name, detail.version, detail.flow_id) == (
        RUN_ID,
        "calm-otter",
        "etl",
        3,
        FLOW_ID,
    )
    assert run.due == START, "a state's own start time is newer than the run's"
    assert detail.run_config == RunConfig("LocalRun", {"A": "1", "B": None, "C": "2"}, "/srv")
    assert detail.storage == "Local"
    assert run.read_at_seconds == 5.0
    assert not detail.is_long_retry


def test_json_columns_may_come_as_text() -> None:
    texts = {key: json.dumps(_row()[key]) for key in ("serialized_state", "run_config", "flow")}
    assert parse.flow_run(_row(**texts), 5.0) == parse.flow_run(_row(), 5.0)


def test_what_a_run_lacks_is_found_elsewhere() -> None:
    flow = {"id": FLOW_ID, "storage": None, "run_config": _LOCAL_RUN}
    run = parse.flow_run(_row(run_config=None, name=None, serialized_state={"type": "Scheduled"}, flow=flow), 5.0)
    assert detail_of(run).run_config.working_dir == "/srv"
    assert run.due == START - timedelta(hours=1)
    assert (run.name, run.flow_name, detail_of(run).storage) == ("", "", "")


def test_a_run_without_any_time_is_due_now() -> None:
    before = datetime.now(UTC)
    run = parse.flow_run(_row(serialized_state={"type": "Scheduled"}, scheduled_start_time=None), 5.0)
    assert before <= run.due <= datetime.now(UTC)


def test_no_run_config_is_a_bare_one() -> None:
    assert _detail(run_config=None, flow={"id": FLOW_ID}).run_config == RunConfig()


def test_an_empty_working_dir_is_none() -> None:
    assert _detail(run_config={"type": "LocalRun", "working_dir": ""}).run_config.working_dir is None


def test_only_a_running_run_is_a_long_retry() -> None:
    task_runs = [{"id": TASK_RUN_ID, "version": 2, "serialized_state": {"type": "Retrying"}}]
    assert not _detail(task_runs=task_runs).is_long_retry
    detail = _detail(state="Running", task_runs=task_runs)
    assert detail.is_long_retry
    assert [(task.id, task.version, task.state["type"]) for task in detail.waiting_task_runs] == [
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
    assert _detail(flow={"id": FLOW_ID, "run_config": {"env": []}}).run_config.kind == "LocalRun"


def _facts(state: str, context: dict[str, str], *submitted: str) -> parse.RunFacts:
    return parse.run_facts(
        {
            "id": RUN_ID,
            "state": state,
            "serialized_state": {"type": state, "context": context},
            "states": [
                {"serialized_state": {"type": "Submitted", "context": {"local_agent_nonce": nonce}}}
                for nonce in submitted
            ],
        }
    )


def test_the_owner_is_in_the_state_or_in_the_history() -> None:
    assert _facts("Submitted", {"local_agent_nonce": "n2"}).owner() == "n2"
    assert _facts("Running", {"local_agent_nonce": "not looked at"}, "n2", "n1").owner() == "n1", "who was first"
    assert _facts("Scheduled", {}).owner() == ""
    assert _facts("Submitted", {}, "n1").owner() == "", "somebody without a nonce"


def _at_version(version: int, kind: str, nonce: str, second: int) -> dict[str, Any]:
    state = {"type": kind, "context": {"local_agent_nonce": nonce} if nonce else {}}
    return {"version": version, "timestamp": f"2026-01-01T00:00:{second:02}+00:00", "serialized_state": state}


def test_of_states_with_one_version_the_runs_own_was_written_last() -> None:
    """Replicas of the Server read a version and write the next one in two steps, and their clocks differ."""
    ours, others = _at_version(2, "Submitted", "ours", 5), _at_version(2, "Submitted", "others", 4)
    waiting = _at_version(1, "Scheduled", "", 1)
    row = {"id": RUN_ID, "version": 2, "state": "Submitted", "recent": [ours, others, waiting]}
    assert parse.run_facts({**row, "serialized_state": others["serialized_state"]}).owner() == "ours"
    assert parse.run_facts({**row, "serialized_state": ours["serialized_state"]}).owner() == "others"


def test_facts_have_a_meaning() -> None:
    assert _facts("Submitted", {}).meaning is RunState.SUBMITTED
    assert parse.run_facts({"id": RUN_ID, "states": []}).meaning is RunState.FINISHED, "not ours to touch"
