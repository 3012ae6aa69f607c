"""The smaller operations: tenants, projects, task runs, names, logs, artifacts, secrets."""

from __future__ import annotations

from typing import Any

import pytest

from api.server.local import LocalApi
from support.api_client import ApiError, new_id


@pytest.fixture
def run(api: LocalApi) -> str:
    """A flow run."""
    return api.create_flow_run(api.create_flow())


def test_hello_and_api(api: LocalApi) -> None:
    found = api.graphql("{ hello api { backend version core_version } tenant { slug name } }")
    assert found["hello"] == "👋"
    assert found["api"]["backend"] == "SERVER"
    assert found["tenant"] == [{"slug": "default", "name": "default"}]


def test_tenants(api: LocalApi) -> None:
    created = api.mutate("create_tenant", {"name": "Second", "slug": "second"})
    found = api.graphql('{ tenant(where: {slug: {_eq: "second"}}) { id name } }')["tenant"]
    assert found == [{"id": created["id"], "name": "Second"}]
    with pytest.raises(ApiError, match="Uniqueness violation"):
        api.mutate("create_tenant", {"name": "x", "slug": "second"})
    with pytest.raises(ApiError, match="slugified"):
        api.mutate("create_tenant", {"name": "x", "slug": "Not A Slug"})


def test_projects(api: LocalApi) -> None:
    given = {"name": "p", "description": "d", "tenant_id": api.tenant_id}
    project = api.mutate("create_project", given)["id"]
    with pytest.raises(ApiError) as raised:
        api.mutate("create_project", given)
    (error,) = raised.value.errors
    assert error["message"] == "Uniqueness violation."  # what the real client looks for
    assert error["extensions"]["detail"] == "a project with the name p exists"
    with pytest.raises(ApiError, match="Invalid tenant"):
        api.mutate("create_project", {**given, "tenant_id": new_id()})
    api.mutate("set_project_name", {"project_id": project, "name": "q"})
    api.mutate("set_project_description", {"project_id": project, "description": "e"})
    assert api.graphql("{ project { name description } }") == {"project": [{"name": "q", "description": "e"}]}


def test_mapped_task_runs_are_made_when_they_are_asked_for(api: LocalApi, run: str) -> None:
    (parent,) = api.task_runs(run)
    task = parent["task"]["id"]
    given = {"flow_run_id": run, "task_id": task, "map_index": 2}
    made = api.mutate("get_or_create_task_run_info", given)
    assert (made["version"], made["state"]) == (1, "Pending")
    assert made["serialized_state"]["message"] == "Task run created"
    assert api.mutate("get_or_create_task_run_info", given) == made
    assert api.mutate("get_or_create_task_run", given)["id"] == made["id"]
    same = {"flow_run_id": run, "task_id": task, "map_index": -1}
    assert api.mutate("get_or_create_task_run_info", same)["id"] == parent["id"]
    assert api.mutate("get_or_create_task_run_info", {**same, "map_index": None})["id"] == parent["id"]
    assert [task_run["map_index"] for task_run in api.task_runs(run)] == [-1, 2]
    query = "query($id: UUID!) { get_task_run_info(task_run_id: $id) { version state } }"
    assert api.graphql(query, {"id": made["id"]}) == {"get_task_run_info": {"version": 1, "state": "Pending"}}


@pytest.mark.parametrize("wrong", ["task_id", "flow_run_id"])
def test_task_runs_of_nothing(api: LocalApi, run: str, wrong: str) -> None:
    given = {"flow_run_id": run, "task_id": api.task_runs(run)[0]["task"]["id"], "map_index": 0, wrong: new_id()}
    with pytest.raises(ApiError, match="Invalid"):
        api.mutate("get_or_create_task_run_info", given)


def test_names(api: LocalApi, run: str) -> None:
    assert api.mutate("set_flow_run_name", {"flow_run_id": run, "name": "new"})["success"]
    task = api.task_runs(run)[0]["id"]
    assert api.mutate("set_task_run_name", {"task_run_id": task, "name": "t"})["success"]
    assert api.flow_run(run, "name task_runs { name }") == {"name": "new", "task_runs": [{"name": "t"}]}
    assert not api.mutate("set_flow_run_name", {"flow_run_id": new_id(), "name": "x"})["success"]
    with pytest.raises(ApiError, match="Invalid name"):
        api.mutate("set_flow_run_name", {"flow_run_id": run, "name": ""})


def line(run: str, message: str, **more: object) -> dict[str, Any]:
    """Return a log line."""
    return {"flow_run_id": run, "name": "agent", "message": message, "level": "INFO", **more}


def test_logs(api: LocalApi, run: str) -> None:
    lines = [
        line(run, "second", timestamp="2026-11-22T08:10:09.489894+00:00", info={"a": 1}),
        line(run, "first", timestamp="2026-11-22T07:10:09.489894+00:00", level="ERROR", task_run_id=None),
        line(new_id(), "of nobody"),
    ]
    assert api.mutate("write_run_logs", {"logs": lines})["success"]
    assert [(each["message"], each["level"]) for each in api.logs(run)] == [("first", "ERROR"), ("second", "INFO")]


def test_as_many_short_lines_as_the_client_sends_at_once(api: LocalApi, run: str) -> None:
    """It fills 3 MB, whatever the lines' length (prefect 1.4.1, utilities/logging.py)."""
    lines = [{"flow_run_id": run, "message": str(number)} for number in range(20_000)]
    assert api.mutate("write_run_logs", {"logs": lines})["success"]
    assert len(api.logs(run)) == 20_000


def test_one_line_need_not_be_in_a_list(api: LocalApi, run: str) -> None:
    assert api.mutate("write_run_logs", {"logs": {"flow_run_id": run, "message": "alone"}})["success"]
    (found,) = api.logs(run)
    assert (found["message"], found["level"], found["name"]) == ("alone", "INFO", None)
    assert found["timestamp"].startswith("2026-11-22T07:00:00.")


def test_logs_within_a_time(api: LocalApi, run: str) -> None:
    api.mutate("write_run_logs", {"logs": [line(run, "x", timestamp="2026-11-22T07:10:00+00:00")]})
    times = '{ timestamp: { _lte: "2026-11-22T07:11:00" } }, { timestamp: { _gt: "2026-11-22T07:09:00+00:00" } }'
    assert api.flow_run(run, f"logs(where: {{ _and: [{times}] }}) {{ message }}") == {"logs": [{"message": "x"}]}


def test_artifacts(api: LocalApi, run: str) -> None:
    task = api.task_runs(run)[0]["id"]
    given = {"task_run_id": task, "kind": "link", "data": {"link": "a"}, "tenant_id": None}
    artifact = api.mutate("create_task_run_artifact", given)["id"]
    assert api.mutate("update_task_run_artifact", {"task_run_artifact_id": artifact, "data": {"link": "b"}})["success"]
    found = api.graphql("{ task_run_artifact { id kind data task_run { id } } }")["task_run_artifact"]
    assert found == [{"id": artifact, "kind": "link", "data": {"link": "b"}, "task_run": {"id": task}}]
    assert api.mutate("delete_task_run_artifact", {"task_run_artifact_id": artifact})["success"]
    with pytest.raises(ApiError, match="not found"):
        api.mutate("create_task_run_artifact", {**given, "task_run_id": new_id()})


def test_secrets(api: LocalApi) -> None:
    value = {"user": "u", "password": "p"}
    assert api.mutate("set_secret", {"name": "S", "value": "old"})["success"]
    assert api.mutate("set_secret", {"name": "S", "value": value})["success"]
    assert api.graphql('{ secret_value(name: "S") }') == {"secret_value": value}
    assert api.mutate("delete_secret", {"name": "S"})["success"]
    with pytest.raises(ApiError, match="The secret S does not exist"):
        api.graphql('{ secret_value(name: "S") }')


def test_key_value_pairs(api: LocalApi) -> None:
    first = api.mutate("set_key_value", {"key": "k", "value": "1"})["id"]
    assert api.mutate("set_key_value", {"key": "k", "value": {"x": 2}})["id"] == first
    found = api.graphql('{ key_value(where: {key: {_eq: "k"}}) { id value } }')["key_value"]
    assert found == [{"id": first, "value": {"x": 2}}]


def test_agent_configs(api: LocalApi) -> None:
    given = {"tenant_id": api.tenant_id, "name": "c", "settings": {"a": 1}}
    config = api.mutate("create_agent_config", given)["id"]
    query = f'{{ agent_config(where: {{ id: {{ _eq: "{config}" }} }}) {{ settings name }} }}'
    assert api.graphql(query) == {"agent_config": [{"settings": {"a": 1}, "name": "c"}]}


def test_heartbeats_of_a_flow_can_be_turned_off(api: LocalApi) -> None:
    flow = api.create_flow()
    api.graphql(f'mutation {{ disable_flow_heartbeat(input: {{flow_id: "{flow}"}}) {{ success }} }}')
    found = api.graphql(f'{{ flow_by_pk(id: "{flow}") {{ settings }} }}')["flow_by_pk"]
    assert found["settings"]["heartbeat_enabled"] is False


def test_not_a_number_is_no_json(api: LocalApi) -> None:
    with pytest.raises(ApiError, match="NaN is no JSON value"):
        api.create_flow_run(api.create_flow(), parameters={"x": float("nan")})


def test_what_names_a_stranger_is_refused_in_words(api: LocalApi) -> None:
    given = {"type": "LocalAgent", "name": "a", "labels": [], "tenant_id": new_id()}
    with pytest.raises(ApiError, match="names something that does not exist"):
        api.mutate("register_agent", given)
    assert api.said == []
