"""Registering flows and creating flow runs of them."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from api.server.local import LocalApi
from support.api_client import ApiError, new_id, serialized_flow

PARAMETERS = [
    {"name": "n", "slug": "n", "required": False, "default": 3},
    {"name": "who", "slug": "who", "required": True, "default": None},
]


def create_flow_run(api: LocalApi, **given: object) -> str:
    """Create a flow run of what is given and return its id."""
    return str(api.mutate("create_flow_run", given)["id"])


def test_a_flow_in_batches_as_prefect_sends_it(api: LocalApi) -> None:
    flow = {**serialized_flow("f", ()), "run_config": {"type": "LocalRun", "labels": ["x"]}}
    text = base64.b64encode(gzip.compress(json.dumps(flow).encode())).decode()
    given = {"project_id": api.create_project(), "serialized_flow": text, "set_schedule_active": False}
    flow_id = api.mutate("create_flow_from_compressed_string", given)["id"]
    whole = serialized_flow("f", ("a-1", "b-1", "c-1"))
    edges = [{"upstream_task": {"slug": "a-1"}, "downstream_task": {"slug": "c-1"}, "key": "x", "mapped": True}]
    for batch in (whole["tasks"][:2], whole["tasks"][1:]):
        assert api.mutate("register_tasks", {"flow_id": flow_id, "serialized_tasks": batch})["success"]
    for _ in range(2):
        assert api.mutate("register_edges", {"flow_id": flow_id, "serialized_edges": edges})["success"]
    query = """query($id: uuid!) { flow_by_pk(id: $id) {
      name version archived core_version settings serialized_flow tasks(order_by: {created: asc}) { slug trigger }
      edges { key mapped upstream_task { slug } downstream_task { slug } } project { name }
    } }"""
    found = api.graphql(query, {"id": flow_id})["flow_by_pk"]
    assert [task["slug"] for task in found["serialized_flow"]["tasks"]] == ["a-1", "b-1", "c-1"]
    assert found["settings"]["heartbeat_enabled"] is True
    expected = {
        "name": "f",
        "version": 1,
        "archived": False,
        "core_version": "1.4.1",
        "tasks": [{"slug": slug, "trigger": "prefect.triggers.all_successful"} for slug in ("a-1", "b-1", "c-1")],
        "edges": [{"key": "x", "mapped": True, "upstream_task": {"slug": "a-1"}, "downstream_task": {"slug": "c-1"}}],
        "project": {"name": "tests"},
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    "text", ["", "nonsense", "bm9uc2Vuc2U=", base64.b64encode(gzip.compress(b"{", mtime=0)).decode()]
)
def test_what_is_no_compressed_flow(api: LocalApi, text: str) -> None:
    given = {"project_id": api.create_project(), "serialized_flow": text}
    with pytest.raises(ApiError, match="Unable to decompress serialized flow"):
        api.mutate("create_flow_from_compressed_string", given)


def test_a_flow_that_would_fill_the_memory(api: LocalApi) -> None:
    text = base64.b64encode(gzip.compress(b" " * 70_000_000)).decode()
    with pytest.raises(ApiError, match="larger than"):
        api.mutate("create_flow_from_compressed_string", {"project_id": new_id(), "serialized_flow": text})


def test_versions_of_a_flow(api: LocalApi) -> None:
    first = api.create_flow("f")
    waiting = api.create_flow_run(first)
    second = api.create_flow("f")
    other = api.create_flow("f", project="elsewhere")
    query = "{ flow(order_by: {created: asc}) { id version archived version_group_id } }"
    flows = api.graphql(query)["flow"]
    assert [(flow["id"], flow["version"], flow["archived"]) for flow in flows] == [
        (first, 1, True),
        (second, 2, False),
        (other, 1, False),
    ]
    assert flows[0]["version_group_id"] == flows[1]["version_group_id"] != flows[2]["version_group_id"]
    assert api.state(waiting) == "Cancelled"
    with pytest.raises(ApiError, match=f"Flow {first} is archived"):
        api.create_flow_run(first)
    run = create_flow_run(api, version_group_id=flows[0]["version_group_id"])
    assert api.flow_run(run, "flow { id }")["flow"]["id"] == second


def test_registering_twice_with_one_key_makes_one_version(api: LocalApi) -> None:
    given = {"project_id": api.create_project(), "serialized_flow": serialized_flow("f"), "idempotency_key": "k"}
    first, again = (api.mutate("create_flow", given)["id"] for _ in range(2))
    other = api.mutate("create_flow", {**given, "idempotency_key": "l"})["id"]
    assert first == again != other


def test_a_schedule_is_taken_and_said_not_to_be_followed(api: LocalApi) -> None:
    schedule = {"clocks": [{"type": "IntervalClock", "interval": 60_000_000}], "type": "Schedule"}
    flow = api.create_flow("nightly", schedule=schedule)
    (line,) = api.said
    assert "nightly" in line
    assert "has a schedule" in line
    query = "query($id: uuid!) { flow_by_pk(id: $id) { is_schedule_active schedule flow_runs { id } } }"
    expected = {"is_schedule_active": True, "schedule": schedule, "flow_runs": []}
    assert api.graphql(query, {"id": flow}) == {"flow_by_pk": expected}
    assert api.mutate("set_schedule_inactive", {"flow_id": flow})["success"]


def test_a_run_with_everything(api: LocalApi) -> None:
    given = {
        "flow_id": api.create_flow(),
        "flow_run_name": "Ünïcode run",
        "parameters": {"x": [1, 2.5, None]},
        "context": {"a": "b"},
        "labels": ["z", "a"],
        "run_config": {"type": "LocalRun", "env": {"A": "1"}, "labels": ["ignored"]},
        "scheduled_start_time": "2026-11-22T10:00:00+02:00",
    }
    run = create_flow_run(api, **given)
    found = api.flow_run(run, "name parameters context labels run_config scheduled_start_time")
    assert found == {
        "name": "Ünïcode run",
        "parameters": {"x": [1, 2.5, None]},
        "context": {"a": "b"},
        "labels": ["a", "z"],
        "run_config": given["run_config"],
        "scheduled_start_time": "2026-11-22T08:00:00.000000+00:00",
    }


def test_idempotency_keys_are_each_flows_own(api: LocalApi) -> None:
    one, two = api.create_flow("one"), api.create_flow("two")
    first = create_flow_run(api, flow_id=one, idempotency_key="k")
    assert create_flow_run(api, flow_id=one, idempotency_key="k", parameters={"x": 1}) == first
    assert create_flow_run(api, flow_id=two, idempotency_key="k") != first
    assert create_flow_run(api, flow_id=one) != create_flow_run(api, flow_id=one)
    assert api.state_types(first) == ["Scheduled"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["flow"]),
        ({"run_config": {"type": "LocalRun", "labels": ["run"]}}, ["run"]),
        ({"run_config": {"type": "LocalRun"}}, []),
        ({"run_config": {"type": "LocalRun", "labels": ["run"]}, "labels": ["own"]}, ["own"]),
        ({"labels": []}, []),
    ],
)
def test_labels_of_a_run(api: LocalApi, given: dict[str, Any], expected: list[str]) -> None:
    run = create_flow_run(api, flow_id=api.create_flow(labels=["flow"]), **given)
    assert api.flow_run(run, "labels")["labels"] == expected


def test_labels_and_run_config_of_a_flow_group(api: LocalApi) -> None:
    flow = api.create_flow(labels=["flow"])
    group = api.graphql("{ flow_group { id } }")["flow_group"][0]["id"]
    config = {"type": "UniversalRun", "labels": ["config"]}
    assert api.mutate("set_flow_group_run_config", {"flow_group_id": group, "run_config": config})["success"]
    assert api.flow_run(api.create_flow_run(flow), "labels run_config") == {"labels": ["config"], "run_config": config}
    assert api.mutate("set_flow_group_labels", {"flow_group_id": group, "labels": ["b", "a", "b"]})["success"]
    assert api.flow_run(api.create_flow_run(flow), "labels")["labels"] == ["a", "b"]
    assert api.mutate("set_flow_group_labels", {"flow_group_id": group, "labels": None})["success"]
    assert api.flow_run(api.create_flow_run(flow), "labels")["labels"] == ["config"]


def test_parameters(api: LocalApi) -> None:
    flow = api.create_flow(parameters=PARAMETERS)
    with pytest.raises(ApiError, match="Required parameters were not supplied: who"):
        api.create_flow_run(flow)
    run = api.create_flow_run(flow, parameters={"who": "me"})
    assert api.flow_run(run, "parameters")["parameters"] == {"n": 3, "who": "me"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "A flow id or version group ID must be provided"),
        ({"flow_id": "00000000-0000-4000-8000-000000000000"}, "not found"),
        ({"version_group_id": "x"}, "Version group x has no unarchived flows"),
    ],
)
def test_runs_of_nothing(api: LocalApi, given: dict[str, str], says: str) -> None:
    with pytest.raises(ApiError, match=says):
        create_flow_run(api, **given)


def test_deleting_takes_what_belongs_to_it(api: LocalApi) -> None:
    first, second = api.create_flow("one"), api.create_flow("two", project="other")
    kept, gone = api.create_flow_run(first), api.create_flow_run(first)
    api.create_flow_run(second)
    assert api.mutate("delete_flow_run", {"flow_run_id": gone})["success"]
    assert not api.mutate("delete_flow_run", {"flow_run_id": gone})["success"]
    project = api.graphql('{ project(where: {name: {_eq: "other"}}) { id } }')["project"][0]["id"]
    assert api.mutate("delete_project", {"project_id": project})["success"]
    left = api.graphql("{ flow_run { id } flow_run_state { id } task_run { flow_run_id } flow { id } }")
    assert left["flow_run"] == [{"id": kept}]
    assert (len(left["flow_run_state"]), left["task_run"]) == (1, [{"flow_run_id": kept}])
    assert api.mutate("delete_flow", {"flow_id": first})["success"]
    assert api.graphql("{ flow_run { id } task { id } }") == {"flow_run": [], "task": []}
