"""States of flow runs and task runs: what is taken, what is refused, what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api.server.local import LocalApi, local_api
from support.api_client import ApiError, new_id

STATES = "set_flow_run_states"


@pytest.fixture
def run(api: LocalApi) -> str:
    """A flow run of a flow with two tasks."""
    return api.create_flow_run(api.create_flow(tasks=("one-1", "two-1")))


def columns(api: LocalApi, run: str) -> dict[str, Any]:
    """Return what a flow run's own row says of its state."""
    return api.flow_run(
        run, "state version state_message state_timestamp state_start_time start_time end_time heartbeat"
    )


def test_new_run_is_scheduled_for_now_and_its_tasks_pending(api: LocalApi, run: str) -> None:
    (state,) = api.states(run)
    found = api.flow_run(
        run, "state version scheduled_start_time state_start_time name auto_scheduled times_resurrected"
    )
    assert state["type"] == found["state"] == "Scheduled"
    assert state["start_time"] == found["scheduled_start_time"] == found["state_start_time"]
    assert state["message"] == "Flow run scheduled."
    assert (found["version"], found["auto_scheduled"], found["times_resurrected"]) == (1, False, 0)
    assert found["name"]
    tasks = [(task["task"]["slug"], task["map_index"], task["state"], task["version"]) for task in api.task_runs(run)]
    assert tasks == [("one-1", -1, "Pending", 1), ("two-1", -1, "Pending", 1)]


def test_life_of_a_run_in_its_columns(api: LocalApi, run: str) -> None:
    api.set_state(run, "Submitted")
    submitted = columns(api, run)
    assert (submitted["version"], submitted["start_time"], submitted["state_start_time"]) == (2, None, None)
    assert submitted["heartbeat"] == submitted["state_timestamp"]
    api.set_state(run, {"type": "Running", "message": "Running flow."})
    running = columns(api, run)
    assert running["start_time"] == running["heartbeat"] == running["state_timestamp"]
    assert (running["state_message"], running["end_time"]) == ("Running flow.", None)
    api.time.advance(5)
    api.set_state(run, "Success")
    ended = columns(api, run)
    assert ended["start_time"] == ended["heartbeat"] == running["start_time"]
    assert ended["end_time"] == ended["state_timestamp"]
    assert ended["version"] == 4
    assert api.state_types(run) == ["Scheduled", "Submitted", "Running", "Success"]


def test_the_wrapped_state_and_the_context_are_kept_and_strangers_dropped(api: LocalApi, run: str) -> None:
    (scheduled,) = api.states(run)
    nonce = {"local_agent": {"nonce": "abc"}}
    sent = {"type": "Submitted", "message": "m", "state": scheduled, "context": nonce, "stranger": 1}
    api.set_state(run, sent)
    kept = api.states(run)[-1]
    assert (kept["state"], kept["context"], kept["type"]) == (scheduled, nonce, "Submitted")
    assert "stranger" not in kept
    assert kept["_result"]["type"] == "NoResultType"


@pytest.mark.parametrize("kind", ["Scheduled", "Retrying", "Resume", "Queued"])
def test_waiting_states_without_start_time_begin_now(api: LocalApi, run: str, kind: str) -> None:
    before = api.time.text()
    api.set_state(run, kind)
    begins = api.states(run)[-1]["start_time"]
    assert before < begins < api.time.text()
    assert columns(api, run)["state_start_time"] == begins


def test_paused_without_start_time_waits_for_ever(api: LocalApi, run: str) -> None:
    api.set_state(run, "Paused")
    assert api.states(run)[-1]["start_time"] is None
    api.time.advance(10**9)
    assert api.queue() == []


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"type": "Dancing"}, "Unsupported value: Dancing"),
        ({}, "Unsupported value"),
        ("Success", "must be an object"),
        ({"type": "Success", "_result": None}, "Field may not be null"),
        ({"type": "Success", "message": 7}, "Not a valid string"),
        ({"type": "Success", "context": "x"}, "Not a valid mapping type"),
        ({"type": "Scheduled", "start_time": "soon"}, "Not a valid datetime"),
        ({"type": "Failed", "message": "x" * 1_000_000}, "State payload is too large."),
    ],
)
def test_refused_states(api: LocalApi, run: str, state: object, says: str) -> None:
    given = {"states": [{"flow_run_id": run, "state": state}]}
    with pytest.raises(ApiError, match=says):
        api.mutate(STATES, given)
    assert api.state_types(run) == ["Scheduled"]


def test_a_message_just_below_the_limit(api: LocalApi, run: str) -> None:
    api.set_state(run, {"type": "Failed", "message": "x" * 999_000})
    assert api.state(run) == "Failed"


def test_any_state_may_follow_any_other_and_versions_are_not_looked_at(api: LocalApi, run: str) -> None:
    for version, state in ((99, "Success"), (-1, "Submitted"), (None, "Cancelled"), (0, "Running")):
        given = {"states": [{"flow_run_id": run, "version": version, "state": {"type": state}}]}
        answer = api.mutate(STATES, given)
        assert answer == {"states": [{"id": run, "status": "SUCCESS", "message": None}]}
    assert api.state_types(run) == ["Scheduled", "Success", "Submitted", "Cancelled", "Running"]


def test_an_unknown_run(api: LocalApi) -> None:
    nobody = new_id()
    with pytest.raises(ApiError, match=f"State update failed for flow run ID {nobody}"):
        api.set_state(nobody, "Running")
    with pytest.raises(ApiError, match=f"State update failed for task run ID {nobody}"):
        api.set_task_state(nobody, "Running")


def test_submit_lock_holds_30_seconds_whatever_happens_between(api: LocalApi, run: str) -> None:
    api.set_state(run, "Submitted")
    api.set_state(run, "Scheduled")
    for _ in range(2):
        status, answer = api.post(submitting(run))
        assert (status, answer["data"]) == (200, {STATES: None})
        (error,) = answer["errors"]
        assert error["message"] == "State update failed: this run has already been submitted."
        assert error["path"] == [STATES]
        api.time.advance(14)
    assert api.state(run) == "Scheduled"
    api.time.advance(3)
    api.set_state(run, "Submitted")
    assert api.state(run) == "Submitted"


def submitting(run: str) -> dict[str, Any]:
    """Return the request that submits a run."""
    query = f"mutation($input: {STATES}_input!) {{ {STATES}(input: $input) {{ states {{ id }} }} }}"
    return {"query": query, "variables": {"input": {"states": [{"flow_run_id": run, "state": {"type": "Submitted"}}]}}}


def test_submit_lock_is_each_runs_own(api: LocalApi) -> None:
    flow = api.create_flow()
    for run in api.create_flow_runs(flow, 3):
        api.set_state(run, "Submitted")


def test_without_the_lock_two_agents_win(tmp_path: Path) -> None:
    with local_api(tmp_path / "server.db", submit_lock=False) as api:
        run = api.create_flow_run(api.create_flow())
        api.set_state(run, "Submitted")
        api.set_state(run, "Submitted")
        assert api.state_types(run) == ["Scheduled", "Submitted", "Submitted"]


def test_one_refused_state_fails_the_answer_but_not_the_others(api: LocalApi) -> None:
    first, second = api.create_flow_runs(api.create_flow(), 2)
    states = [
        {"flow_run_id": first, "state": {"type": "Running"}},
        {"flow_run_id": new_id(), "state": {"type": "Running"}},
        {"flow_run_id": second, "state": {"type": "Running"}},
    ]
    with pytest.raises(ApiError, match="State update failed") as raised:
        api.mutate(STATES, {"states": states})
    assert raised.value.data == {STATES: None}
    assert [api.state(first), api.state(second)] == ["Running", "Running"]


def test_aliases_have_answers_of_their_own(api: LocalApi) -> None:
    first, second = api.create_flow_runs(api.create_flow(), 2)
    variables = {
        name: {"states": [{"flow_run_id": run, "state": {"type": "Submitted"}}]}
        for name, run in (("a", first), ("b", new_id()), ("c", second))
    }
    declared = ", ".join(f"${name}: {STATES}_input!" for name in variables)
    fields = " ".join(f"{name}: {STATES}(input: ${name}) {{ states {{ id status }} }}" for name in variables)
    status, answer = api.post({"query": f"mutation({declared}) {{ {fields} }}", "variables": variables})
    assert status == 200
    assert answer["data"] == {
        "a": {"states": [{"id": first, "status": "SUCCESS"}]},
        "b": None,
        "c": {"states": [{"id": second, "status": "SUCCESS"}]},
    }
    assert [error["path"] for error in answer["errors"]] == [["b"]]


def test_what_a_refused_mutation_wrote_is_undone(api: LocalApi) -> None:
    project = api.create_project()
    task = {"slug": "a-1"}
    edge = {"upstream_task": {"slug": "a-1"}, "downstream_task": {"slug": "nowhere"}}
    flow = {"name": "broken", "tasks": [task], "edges": [edge]}
    with pytest.raises(ApiError, match="tasks that do not exist within this flow: nowhere"):
        api.mutate("create_flow", {"project_id": project, "serialized_flow": flow})
    assert api.graphql("{ flow { id } task { id } flow_group { id } }") == {"flow": [], "task": [], "flow_group": []}


def test_tasks_run_only_while_their_flow_run_does(api: LocalApi, run: str) -> None:
    task = api.task_runs(run)[0]["id"]
    with pytest.raises(ApiError, match=f"associated flow run {run} is not in a running state"):
        api.set_task_state(task, "Running")
    api.set_state(run, "Running")
    api.set_task_state(task, "Running")
    api.set_task_state(task, "Success")
    first, second = api.task_runs(run)
    assert (first["state"], first["version"], second["state"]) == ("Success", 3, "Pending")


def test_cached_inputs_are_carried_forward(api: LocalApi, run: str) -> None:
    api.set_state(run, "Running")
    task = api.task_runs(run)[0]["id"]
    inputs = {"x": {"type": "PrefectResult", "location": "1"}}
    api.set_task_state(task, {"type": "Running", "cached_inputs": inputs})
    api.set_task_state(task, {"type": "Retrying", "run_count": 1, "start_time": api.time.text(60)})
    state = api.task_runs(run)[0]["serialized_state"]
    assert (state["cached_inputs"], state["run_count"]) == (inputs, 1)


def test_cancelled_takes_unfinished_task_runs_with_it(api: LocalApi, run: str) -> None:
    api.set_state(run, "Running")
    done, open_ = (task["id"] for task in api.task_runs(run))
    api.set_task_state(done, "Running")
    api.set_task_state(done, "Success")
    api.set_task_state(open_, "Running")
    api.set_state(run, {"type": "Cancelled", "message": "enough"})
    assert [(task["state"], task["serialized_state"]["message"]) for task in api.task_runs(run)] == [
        ("Success", "set to Success by a test"),
        ("Cancelled", "enough"),
    ]


@pytest.mark.parametrize("state", ["Failed", "TimedOut"])
def test_other_ends_leave_task_runs_alone(api: LocalApi, run: str, state: str) -> None:
    api.set_state(run, "Running")
    api.set_task_state(api.task_runs(run)[0]["id"], "Running")
    api.set_state(run, state)
    assert [task["state"] for task in api.task_runs(run)] == ["Running", "Pending"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Scheduled", "Cancelled"),
        ("Submitted", "Cancelled"),
        ("Running", "Cancelling"),
        ("Cancelling", "Cancelling"),
        ("Success", "Success"),
        ("Cancelled", "Cancelled"),
    ],
)
def test_cancel(api: LocalApi, run: str, before: str, after: str) -> None:
    api.set_state(run, before)
    assert api.cancel(run) == after
    assert api.state(run) == after


def test_heartbeats(api: LocalApi, run: str) -> None:
    api.time.advance(60)
    now = api.time.text()
    api.mutate("update_flow_run_heartbeat", {"flow_run_id": run})
    assert api.flow_run(run)["heartbeat"] > now
    assert api.mutate("update_flow_run_heartbeat", {"flow_run_id": new_id()})["success"] is True


def test_submitting_notes_the_agent_but_running_does_not(api: LocalApi) -> None:
    agent = api.register_agent()
    first, second = api.create_flow_runs(api.create_flow(), 2)
    api.set_state(first, "Submitted", headers={"X-PREFECT-AGENT-ID": agent})
    api.set_state(second, "Submitted", headers={"X-PREFECT-AGENT-ID": new_id()})
    api.set_state(second, "Running", headers={"X-PREFECT-AGENT-ID": agent})
    assert [api.flow_run(run)["agent_id"] for run in (first, second)] == [agent, None]
