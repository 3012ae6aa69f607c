"""The queue: who gets which flow runs, and when."""

from __future__ import annotations

import json
import random
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

import pytest

from api.server.local import LocalApi, local_api
from local_agent.server.data import labels
from local_agent.server.input.json_text import to_json
from local_agent.server.input.refusals import RefusedError


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


class Words:
    """An index in memory, which counts the looks."""

    def __init__(self, sets: Iterable[list[str]]) -> None:
        self.words = sorted({to_json(labels.sorted_once(each)) for each in sets})
        self.looks = 0

    def first_after(self, text: str) -> str | None:
        """Return the next word."""
        self.looks += 1
        place = bisect_right(self.words, text)
        return self.words[place] if place < len(self.words) else None


# What stands beside quotation marks, commas and brackets in the order of texts.
_LETTERS = ["a", "b", "c", "-", ",", '"', "\\", " ", "!", "]", "[", "ü", "\U0001f600", "\x7f", "#", "~"]


def test_the_sets_that_fit_are_found_whatever_the_labels() -> None:
    chance = random.Random(14)
    for _ in range(400):
        known = ["".join(chance.choices(_LETTERS, k=chance.randint(0, 3))) for _ in range(chance.randint(1, 8))]
        words = Words(
            [chance.sample(known, chance.randint(0, min(4, len(known)))) for _ in range(chance.randint(0, 40))]
        )
        own = chance.sample(known, chance.randint(0, len(known)))
        fits = [each for each in words.words if set(json.loads(each)) <= set(own) and bool(own) == (each != "[]")]
        assert sorted(labels.fitting_sets(own, words)) == (fits if own else ["[]"])


def test_a_poll_looks_for_no_more_than_fits() -> None:
    chance = random.Random(14)
    own = [f"l{number:03}" for number in range(300)]
    mine = [chance.sample(own, 6) for _ in range(500)]
    others = [[chance.choice(own), f"{chance.choice('kmz')}{number}"] for number in range(3000)]
    words = Words([*mine, *others])
    found = list(labels.fitting_sets(own, words))
    assert len(found) == len({to_json(sorted(each)) for each in mine})
    # of each beginning that fits at most: a look at where it ends
    assert words.looks < 5 * len(found)


def test_a_poll_that_would_look_for_too_long() -> None:
    words = Words([[f"a{number:04}", f"b{number:04}", "z"] for number in range(300)] * 10)
    own = [*(f"a{number:04}" for number in range(150)), *(f"b{number:04}" for number in range(150))]
    assert list(labels.fitting_sets(own, words)) == []
    assert words.looks < 1000
    many = Words([[f"a{one:03}", f"b{two:03}", "z"] for one in range(80) for two in range(80)])
    own = [*(f"a{number:03}" for number in range(100)), *(f"b{number:03}" for number in range(100))]
    with pytest.raises(RefusedError, match="more sets"):
        list(labels.fitting_sets(own, many))


def test_a_page_of_many_sets_has_the_earliest(api: LocalApi) -> None:
    flow = api.create_flow()
    names = [f"l{number}" for number in range(8)]
    runs = []
    for number in range(60):
        start = api.time.text(-600 + (number * 37) % 60)
        chosen = [names[number % 8], names[(number // 8) % 8]]
        runs.append((start, api.create_flow_run(flow, labels=chosen, scheduled_start_time=start)))
    assert api.queue(names) == [run for _, run in sorted(runs)[:25]]
