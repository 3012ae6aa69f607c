"""The queue: who gets which flow runs, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.server.local import LocalApi, local_api


@pytest.mark.parametrize(
    ("run", "agent", "fits"),
    [
        ([], [], True),
        ([], ["a"], False),
        (["a"], [], False),
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        (["a"], ["b", "a"], True),
        (["a", "b"], ["a"], False),
        (["a", "b"], ["b", "c", "a"], True),
        (["ü 'x'"], ["ü 'x'"], True),
    ],
)
def test_labels(api: LocalApi, run: list[str], agent: list[str], *, fits: bool) -> None:
    flow_run = api.create_flow_run(api.create_flow(labels=run))
    assert api.queue(agent) == ([flow_run] if fits else [])


def test_agents_without_labels_may_send_none_or_null(api: LocalApi) -> None:
    run = api.create_flow_run(api.create_flow())
    given = {"tenant_id": api.tenant_id}
    assert api.mutate("get_runs_in_queue", given)["flow_run_ids"] == [run]
    assert api.mutate("get_runs_in_queue", {**given, "labels": None, "before": None})["flow_run_ids"] == [run]


def test_pages_of_25_the_earliest_first(api: LocalApi) -> None:
    flow = api.create_flow()
    later = api.create_flow_runs(flow, 20)
    before = api.time.text(-60)
    earlier = [api.create_flow_run(flow, scheduled_start_time=before) for _ in range(10)]
    page = api.queue()
    assert len(page) == 25
    assert set(page[:10]) == set(earlier)
    assert page[10:] == later[:15]
    for run in page:
        api.set_state(run, "Submitted")
    assert api.queue() == later[15:]


def test_runs_that_nobody_wants_hide_no_others(api: LocalApi) -> None:
    api.create_flow_runs(api.create_flow("other", labels=["nobody"]), 120)
    wanted = api.create_flow_run(api.create_flow("mine", labels=["mine"]))
    assert api.queue(["mine"]) == [wanted]


def test_runs_are_handed_out_ahead_of_time_on_request(api: LocalApi) -> None:
    flow = api.create_flow()
    run = api.create_flow_run(flow, scheduled_start_time=api.time.text(8))
    api.create_flow_run(flow, scheduled_start_time=api.time.text(3600))
    assert api.queue() == []
    assert api.queue(before=api.time.text(10)) == [run]
    api.time.advance(9)
    assert api.queue() == [run]


@pytest.mark.parametrize(
    ("state", "queued"),
    [
        ("Scheduled", True),
        ("Queued", True),
        ("Retrying", True),
        ("Resume", True),
        ("Paused", False),
        ("Submitted", False),
        ("Running", False),
        ("Cancelling", False),
        ("Cancelled", False),
        ("Success", False),
        ("Failed", False),
    ],
)
def test_states(api: LocalApi, state: str, *, queued: bool) -> None:
    run = api.create_flow_run(api.create_flow())
    api.set_state(run, state)
    assert api.queue() == ([run] if queued else [])


def test_a_running_flow_run_with_a_task_that_is_due_for_its_retry(api: LocalApi) -> None:
    run = api.create_flow_run(api.create_flow(labels=["a"]))
    api.set_state(run, "Running")
    task = api.task_runs(run)[0]["id"]
    api.set_task_state(task, "Running")
    api.set_task_state(task, {"type": "Retrying", "start_time": api.time.text(700), "run_count": 1})
    assert api.queue(["a"]) == []
    api.time.advance(701)
    assert api.queue(["a"]) == [run]
    assert api.queue(["b"]) == []
    api.set_task_state(task, "Submitted")
    assert api.queue(["a"]) == []


def test_several_tasks_that_are_due_name_their_flow_run_once(api: LocalApi) -> None:
    run = api.create_flow_run(api.create_flow(tasks=("a-1", "b-1")))
    api.set_state(run, "Running")
    for task in api.task_runs(run):
        api.set_task_state(task["id"], {"type": "Retrying", "start_time": api.time.text(), "run_count": 1})
    assert api.queue() == [run]


def test_a_file_of_an_earlier_version_gets_the_indexes_that_it_lacks(tmp_path: Path) -> None:
    def indexes(api: LocalApi) -> list[str]:
        names = "SELECT name FROM sqlite_schema WHERE type = 'index' ORDER BY name"
        return [row[0] for row in api.database.rows(names)]

    with local_api(tmp_path / "server.db") as api:
        wanted = indexes(api)
        run = api.create_flow_run(api.create_flow())
        api.database.write("DROP INDEX flow_run_5")
        api.database.write("CREATE INDEX flow_run_4 ON flow_run (tenant_id, state_start_time, labels)")
        api.database.write("UPDATE flow_run SET labels = ?", ('["y","x","y"]',))
    with local_api(tmp_path / "server.db") as api:
        assert indexes(api) == wanted
        # What that version stored as it came is found by the one index as well.
        assert api.queue(["x", "y", "z"], before=api.time.text(60)) == [run]


def test_only_its_own_tenants_runs(api: LocalApi) -> None:
    api.create_flow_run(api.create_flow())
    other = api.mutate("create_tenant", {"name": "Other", "slug": "other"})["id"]
    assert api.mutate("get_runs_in_queue", {"tenant_id": other, "labels": []})["flow_run_ids"] == []


def test_asking_is_the_agents_sign_of_life(api: LocalApi) -> None:
    agent = api.register_agent("a", ["x"])
    query = "{ agent { id name labels type core_version last_queried } }"
    assert api.graphql(query)["agent"][0]["last_queried"] is None
    now = api.time.text()
    api.queue(["x"], agent_id=agent)
    (found,) = api.graphql(query)["agent"]
    assert found.pop("last_queried") > now
    assert found == {"id": agent, "name": "a", "labels": ["x"], "type": "LocalAgent", "core_version": None}


def test_agents_are_the_same_by_name_type_version_and_labels(api: LocalApi) -> None:
    def register(name: str, labels: list[str] | None, version: str) -> str:
        given = {"type": "LocalAgent", "name": name, "labels": labels, "tenant_id": api.tenant_id}
        headers = {"X-PREFECT-CORE-VERSION": version}
        return str(api.mutate("register_agent", given, headers=headers)["id"])

    first = register("a", ["x", "y"], "1.4.1")
    assert register("a", ["y", "x"], "1.4.1") == first
    others = [register("b", ["x", "y"], "1.4.1"), register("a", ["x"], "1.4.1"), register("a", ["x", "y"], "1.4.0")]
    assert len({first, *others}) == 4
    assert register("c", None, "1.4.1") == register("c", [], "1.4.1")
