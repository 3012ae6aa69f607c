"""Flow runs of the real prefect 1.4.1, started by its own agent: Success with a mapped task, Failed, Cancelled."""

from __future__ import annotations

import pytest

from support.api import Api
from support.api_client import wait_until
from support.real_prefect import SECONDS, Prefect

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def runs(api: Api, prefect: Prefect, flows: dict[str, str]) -> dict[str, str]:
    """The ids of three flow runs that Prefect's own agent has brought to their ends, by the name of their flow."""
    made = {
        "mapped": api.create_flow_run(flows["mapped"], parameters={"n": 2}, name="two-squares"),
        "failing": api.create_flow_run(flows["failing"]),
        "endless": api.create_flow_run(flows["endless"]),
    }
    assert "Completed deployment of flow run" in prefect.run_queue("real")
    api.wait_for_state(made["endless"], "Running", seconds=SECONDS)
    wait_until(lambda: _task_runs(api, made["endless"]), lambda: "no task run began", seconds=SECONDS)
    assert api.cancel(made["endless"]) == "Cancelling"
    for run in made.values():
        api.wait_for_state(run, "Success", "Failed", "Cancelled", seconds=SECONDS)
    prefect.wait_until_gone()  # only then is everything written
    return made


def _task_runs(api: Api, run: str) -> bool:
    return [task["state"] for task in api.task_runs(run)] == ["Running"]


def test_a_mapped_flow_succeeds(api: Api, runs: dict[str, str]) -> None:
    run = runs["mapped"]
    assert api.state_types(run) == ["Scheduled", "Submitted", "Running", "Success"]
    found = [(task["task"]["slug"], task["map_index"], task["state"]) for task in api.task_runs(run)]
    assert sorted(found) == [
        ("n", -1, "Success"),
        ("numbers-1", -1, "Success"),
        ("square-1", -1, "Mapped"),
        ("square-1", 0, "Success"),
        ("square-1", 1, "Success"),
        ("total-1", -1, "Success"),
    ]
    messages = api.messages(run)
    assert any(message.startswith("Submitted for execution: PID: ") for message in messages)
    assert "Flow run SUCCESS: all reference tasks succeeded" in messages


def test_a_failing_flow_retries_and_fails(api: Api, runs: dict[str, str]) -> None:
    assert api.state_types(runs["failing"]) == ["Scheduled", "Submitted", "Running", "Failed"]
    (task,) = api.flow_run(runs["failing"], "task_runs { states(order_by: {version: asc}) { state } }")["task_runs"]
    history = [state["state"] for state in task["states"]]
    assert history == ["Pending", "Running", "Failed", "Retrying", "Running", "Failed"]


def test_a_cancelled_flow_ends(api: Api, runs: dict[str, str]) -> None:
    expected = ["Scheduled", "Submitted", "Running", "Cancelling", "Cancelled"]
    assert api.state_types(runs["endless"]) == expected
    assert [task["state"] for task in api.task_runs(runs["endless"])] == ["Cancelled"]


def test_heartbeats_and_times(api: Api, runs: dict[str, str]) -> None:
    found = api.flow_run(runs["mapped"], "heartbeat start_time end_time agent_id")
    assert all(found.values())
    assert found["start_time"] < found["end_time"]
    (agent,) = api.graphql("{ agent { id name labels type core_version last_queried } }")["agent"]
    assert agent.pop("last_queried")
    assert agent == {
        "id": found["agent_id"],
        "name": "agent",
        "labels": ["real"],
        "type": "LocalAgent",
        "core_version": "1.4.1",
    }


def test_the_views_of_the_library(prefect: Prefect, flows: dict[str, str], runs: dict[str, str]) -> None:
    program = f"""
import json
from prefect.backend import FlowRunView, FlowView
view = FlowRunView.from_flow_run_id({runs["mapped"]!r})
again = view.get_latest()
total = view.get_task_run(task_slug="total-1")
square = view.get_task_run(task_slug="square-1")
everything = view.get_all_task_runs()
print(json.dumps({{
    "name": again.name, "flow": view.flow_id, "state": type(view.state).__name__, "parameters": view.parameters,
    "labels": list(view.labels), "states": [type(state).__name__ for state in view.states],
    "result": total.get_result(), "squares": square.get_result(), "task_runs": len(everything),
    "logs": bool(view.get_logs()), "run_config": type(view.run_config).__name__,
    "group": FlowView.from_flow_name("mapped").flow_id, "project": view.get_flow_metadata().project_name,
}}))
"""
    assert prefect.script(program) == {
        "name": "two-squares",
        "flow": flows["mapped"],
        "state": "Success",
        "parameters": {"n": 2},
        "labels": ["real"],
        "states": ["Scheduled", "Submitted", "Running", "Success"],
        "result": 1,
        "squares": [0, 1],
        "task_runs": 6,
        "logs": True,
        "run_config": "LocalRun",
        "group": flows["mapped"],
        "project": "real",
    }


def test_prefect_run_watches_a_flow_run_to_its_end(api: Api, prefect: Prefect, flows: dict[str, str]) -> None:
    watch = ["run", "--name", "mapped", "--param", "n=1", "--run-name", "watched", "--watch"]
    with prefect.started(*watch) as (process, output):
        query = '{ flow_run(where: {name: {_eq: "watched"}}) { id } }'
        wait_until(lambda: api.graphql(query)["flow_run"], output.read_text, seconds=SECONDS)
        assert flows["mapped"] in str(api.graphql("{ flow_run { flow_id } }"))
        prefect.run_queue("real")
        assert process.wait(SECONDS) == 0, output.read_text()
        printed = output.read_text()
    for expected in ("Entered state <Submitted>", "Entered state <Running>", "Flow run succeeded!"):
        assert expected in printed
    prefect.wait_until_gone()


def test_the_command_line_shows_what_was(prefect: Prefect, runs: dict[str, str]) -> None:
    listed = prefect.cli("get", "flow-runs", "--limit", "50")
    for run in runs.values():
        assert run in listed
    for state in ("Success", "Failed", "Cancelled"):
        assert state in listed
    assert "two-squares" in prefect.cli("get", "flow-runs", "--flow", "mapped", "--project", "real", "--started")
    assert "Flow run SUCCESS" in prefect.cli("get", "logs", "--name", "two-squares")
    assert "Beginning Flow run for 'failing'" in prefect.cli("get", "logs", "--id", runs["failing"])
    described = prefect.cli("describe", "flow-runs", "--name", "two-squares")
    assert '"type": "Success"' in described
