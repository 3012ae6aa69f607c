"""Where, order, distinct, limit: what a query picks, as Hasura would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.server.local import LocalApi, local_api
from local_agent.server.data import like
from support.api_client import ApiError

NAMES = ("alpha", "Beta", "gamma_1", "100%", "delta")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApi]:
    """An API with five flow runs of two flows; delta never got a start."""
    with local_api(Path(tmp_path_factory.mktemp("filters")) / "server.db") as filled:
        one = filled.create_flow("one", labels=["x"], tasks=("a-1", "b-1"), project="P")
        two = filled.create_flow("two", project="Q")
        runs = {name: filled.create_flow_run(two if name == "delta" else one, name=name) for name in NAMES}
        for name in NAMES[:4]:
            filled.set_state(runs[name], "Running")
        filled.set_state(runs["Beta"], "Success")
        yield filled


def names(api: LocalApi, arguments: str) -> list[str]:
    """Return the names of the flow runs that the arguments pick, in order."""
    return [run["name"] for run in api.graphql(f"{{ flow_run({arguments}) {{ name }} }}")["flow_run"]]


def picked(api: LocalApi, where: str) -> set[str]:
    """Return the names of the flow runs that a filter picks."""
    return set(names(api, f"where: {where}"))


EVERY = set(NAMES)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("{}", EVERY),
        ("null", EVERY),
        ('{name: {_eq: "alpha"}}', {"alpha"}),
        ('{name: {_neq: "alpha"}}', EVERY - {"alpha"}),
        ("{name: {_eq: null}}", EVERY),
        ("{name: null}", EVERY),
        ("{name: {}}", EVERY),
        ("{flow: null}", EVERY),
        ('{name: {_in: ["alpha", "Beta", "nobody"]}}', {"alpha", "Beta"}),
        ('{name: {_in: "alpha"}}', {"alpha"}),
        ("{name: {_in: []}}", set()),
        ("{name: {_nin: []}}", EVERY),
        ("{name: {_in: null}}", EVERY),
        ('{name: {_nin: ["alpha", "Beta"]}}', EVERY - {"alpha", "Beta"}),
        ('{name: {_gt: "alpha", _lte: "delta"}}', {"delta"}),
        ('{name: {_like: "%a"}}', {"alpha", "Beta", "delta"}),
        ('{name: {_like: "b%"}}', set()),
        ('{name: {_ilike: "b%"}}', {"Beta"}),
        ('{name: {_nlike: "%a%"}}', {"100%"}),
        ('{name: {_like: "%\\\\%"}}', {"100%"}),
        ('{name: {_like: "gamma__"}}', {"gamma_1"}),
        ('{name: {_like: "gamma\\\\__"}}', {"gamma_1"}),
        ("{version: {_gte: 2, _lt: 3}}", {"alpha", "gamma_1", "100%"}),
        ("{auto_scheduled: {_eq: false}}", EVERY),
        ("{start_time: {_is_null: true}}", {"delta"}),
        ("{start_time: {_is_null: false}}", EVERY - {"delta"}),
        ('{_and: {name: {_eq: "alpha"}}}', {"alpha"}),
        ('{_and: [{name: {_eq: "alpha"}}, {version: {_eq: 2}}]}', {"alpha"}),
        ('{_and: [{name: {_eq: "alpha"}}, {version: {_eq: 1}}]}', set()),
        ("{_and: []}", EVERY),
        ('{_or: [{name: {_eq: "alpha"}}, {name: {_eq: "Beta"}}]}', {"alpha", "Beta"}),
        ('{_or: {name: {_eq: "alpha"}}}', {"alpha"}),
        ("{_or: [{name: {_eq: null}}]}", EVERY),
        ("{_or: []}", set()),
        ('{_not: {name: {_eq: "alpha"}}}', EVERY - {"alpha"}),
        ('{flow: {name: {_eq: "two"}}}', {"delta"}),
        ('{flow: {_and: {name: {_eq: null}, project: {name: {_eq: "Q"}}}}}', {"delta"}),
        ('{flow: {tasks: {slug: {_eq: "b-1"}}}}', EVERY - {"delta"}),
        ('{states: {state: {_eq: "Success"}}}', {"Beta"}),
        ('{_not: {states: {state: {_eq: "Running"}}}}', {"delta"}),
        ('{labels: {_contains: ["x"]}}', EVERY - {"delta"}),
        ('{labels: {_eq: ["x"]}}', EVERY - {"delta"}),
        ("{labels: {_eq: []}}", {"delta"}),
        ('{created: {_gte: "2026-11-22T08:00:00+01:00", _lt: "2026-11-22T07:00:01"}}', EVERY),
        ('{created: {_lt: "2026-11-22T07:00:00Z"}}', set()),
    ],
)
def test_where(api: LocalApi, where: str, expected: set[str]) -> None:
    assert picked(api, where) == expected


def test_where_of_an_agent_looking_for_due_runs(api: LocalApi) -> None:
    due = '{ state: { _eq: "Running" }, task_runs: { state_start_time: { _lte: "2026-11-22T08:00:00+00:00" } } }'
    assert picked(api, f'{{_or: [{{ state: {{ _eq: "Scheduled" }} }}, {due}]}}') == {"delta"}


def test_many_values(api: LocalApi) -> None:
    wanted = ["alpha", *(f"nobody-{number}" for number in range(500))]
    query = "query($names: [String!]) { flow_run(where: {name: {_in: $names}}) { name } }"
    assert api.graphql(query, {"names": wanted}) == {"flow_run": [{"name": "alpha"}]}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("order_by: {name: asc}", ["100%", "Beta", "alpha", "delta", "gamma_1"]),
        ("order_by: {name: desc}, limit: 2", ["gamma_1", "delta"]),
        ("order_by: {name: asc}, offset: 3", ["delta", "gamma_1"]),
        ("order_by: {name: asc}, limit: 2, offset: 1", ["Beta", "alpha"]),
        ("order_by: {name: asc}, limit: null", ["100%", "Beta", "alpha", "delta", "gamma_1"]),
        ("order_by: {state: asc, name: desc}", ["gamma_1", "alpha", "100%", "delta", "Beta"]),
        ("order_by: {name: desc, state: asc}", ["gamma_1", "delta", "alpha", "Beta", "100%"]),
        ("order_by: [{state: desc}, {name: asc}]", ["Beta", "delta", "100%", "alpha", "gamma_1"]),
        ("order_by: {start_time: asc}", ["alpha", "Beta", "gamma_1", "100%", "delta"]),
        ("order_by: {start_time: desc}", ["delta", "100%", "gamma_1", "Beta", "alpha"]),
        ("order_by: {start_time: desc_nulls_last}, limit: 1", ["100%"]),
        ("order_by: {flow: {name: desc}, name: asc}, limit: 2", ["delta", "100%"]),
        ("distinct_on: state, order_by: {state: asc, name: desc}", ["gamma_1", "delta", "Beta"]),
        ("distinct_on: [state, version], order_by: {state: asc, name: asc}", ["100%", "delta", "Beta"]),
        ("distinct_on: null, order_by: {name: asc}, limit: 1", ["100%"]),
    ],
)
def test_order(api: LocalApi, arguments: str, expected: list[str]) -> None:
    assert names(api, arguments) == expected


def test_order_in_a_variable_keeps_its_own_order(api: LocalApi) -> None:
    query = "query($by: [flow_run_order_by!]) { flow_run(order_by: $by) { name } }"
    found = api.graphql(query, {"by": {"state": "asc", "name": "desc"}})["flow_run"]
    assert [run["name"] for run in found] == ["gamma_1", "alpha", "100%", "delta", "Beta"]


def test_absent_variables_are_no_condition(api: LocalApi) -> None:
    query = "query($name: String, $limit: Int) { flow_run(where: {name: {_eq: $name}}, limit: $limit) { name } }"
    assert len(api.graphql(query)["flow_run"]) == len(NAMES)
    assert api.graphql(query, {"name": "Beta", "limit": 7}) == {"flow_run": [{"name": "Beta"}]}


def test_defaults_of_variables(api: LocalApi) -> None:
    query = 'query($name: String = "Beta") { flow_run(where: {name: {_eq: $name}}) { name } }'
    assert api.graphql(query) == {"flow_run": [{"name": "Beta"}]}


def test_nested_relations_have_arguments_of_their_own(api: LocalApi) -> None:
    query = """{
      flow(order_by: {name: asc}) {
        name
        last: flow_runs(order_by: {name: desc}, limit: 1) { name states(where: {state: {_eq: "Running"}}) { state } }
        flow_runs(where: {name: {_ilike: "B%"}}) { name flow { project { name } } }
        flow_runs_aggregate(where: {state: {_neq: "Success"}}) { aggregate { count } }
      }
    }"""
    assert api.graphql(query)["flow"] == [
        {
            "name": "one",
            "last": [{"name": "gamma_1", "states": [{"state": "Running"}]}],
            "flow_runs": [{"name": "Beta", "flow": {"project": {"name": "P"}}}],
            "flow_runs_aggregate": {"aggregate": {"count": 3}},
        },
        {
            "name": "two",
            "last": [{"name": "delta", "states": []}],
            "flow_runs": [],
            "flow_runs_aggregate": {"aggregate": {"count": 1}},
        },
    ]


def test_aggregates(api: LocalApi) -> None:
    query = """{
      all: flow_run_aggregate { aggregate { count } }
      states: flow_run_aggregate(distinct_on: state) { aggregate { n: count } }
      named: flow_run_aggregate(where: {name: {_eq: "Beta"}}) { nodes { name } aggregate { count } }
    }"""
    assert api.graphql(query) == {
        "all": {"aggregate": {"count": 5}},
        "states": {"aggregate": {"n": 3}},
        "named": {"nodes": [{"name": "Beta"}], "aggregate": {"count": 1}},
    }


def test_fragments_aliases_and_directives(api: LocalApi) -> None:
    query = """query($no: Boolean!) {
      flow_run(where: {name: {_eq: "Beta"}}) {
        ...some other: name __typename state @skip(if: true) ...extra @include(if: $no)
      }
    }
    fragment some on flow_run { flow { name } ... on flow_run { version } }
    fragment extra on flow_run { labels }"""
    expected = {"flow": {"name": "one"}, "version": 3, "other": "Beta", "__typename": "flow_run"}
    assert api.graphql(query, {"no": False}) == {"flow_run": [expected]}


def test_one_row_by_its_key(api: LocalApi) -> None:
    key = api.graphql('{ flow_run(where: {name: {_eq: "Beta"}}) { id } }')["flow_run"][0]["id"]
    query = "query($id: uuid!) { flow_run_by_pk(id: $id) { name flow { name } } }"
    assert api.graphql(query, {"id": key}) == {"flow_run_by_pk": {"name": "Beta", "flow": {"name": "one"}}}
    upper = f'{{ flow_run_by_pk(id: "{key.upper()}") {{ name }} }}'
    assert api.graphql(upper) == {"flow_run_by_pk": {"name": "Beta"}}
    nobody = f'{{ flow_run_by_pk(id: "{key[:-12]}000000000000") {{ name }} }}'
    assert api.graphql(nobody) == {"flow_run_by_pk": None}


@pytest.mark.parametrize(
    ("query", "names_it"),
    [
        ("{ flow_run(where: {nonsense: {_eq: 1}}) { id } }", "nonsense"),
        ("{ flow_run(where: {name: {_sounds_like: 1}}) { id } }", "_sounds_like"),
        ('{ flow_run(where: {id: {_eq: "12"}}) { id } }', "12"),
        ('{ flow_run(where: {created: {_gt: "yesterday"}}) { id } }', "yesterday"),
        ("{ flow_run { nonsense } }", "nonsense"),
        ("{ flow_run(order_by: {name: sideways}) { id } }", "sideways"),
    ],
)
def test_what_is_not_there_is_named(api: LocalApi, query: str, names_it: str) -> None:
    status, answer = api.post({"query": query})
    assert status == 400
    assert names_it in answer["errors"][0]["message"]


def test_columns_of_every_kind(api: LocalApi) -> None:
    query = '{ flow_run(where: {name: {_eq: "delta"}}) { labels auto_scheduled version created parameters heartbeat } }'
    run: dict[str, Any] = api.graphql(query)["flow_run"][0]
    assert run.pop("created").startswith("2026-11-22T07:00:00.")
    assert run == {"labels": [], "auto_scheduled": False, "version": 1, "parameters": {}, "heartbeat": None}


STORED = {"x": 77, "y": [1, 2, {"k": [True, None]}], "o": {"k": 1, "l": {"m": "n"}}, "n": None}


@pytest.fixture(scope="module")
def jsonb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApi]:
    """An API with a run that has STORED as its parameters, and labels a and b."""
    with local_api(Path(tmp_path_factory.mktemp("jsonb")) / "server.db") as filled:
        filled.create_flow_run(filled.create_flow(), parameters=STORED, labels=["b", "a"])
        yield filled


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ({"_contains": {"x": 77}}, True),
        ({"_contains": {"x": 77.0}}, True),
        ({"_contains": {"x": "77"}}, False),
        ({"_contains": {"y": 77}}, False),
        ({"_contains": {"nosuch": 77}}, False),
        ({"_contains": {"n": None}}, True),
        ({"_contains": {"nosuch": None}}, False),
        ({"_contains": {"y": [2, 1, 1]}}, True),
        ({"_contains": {"y": [3]}}, False),
        ({"_contains": {"y": [{"k": [True]}]}}, True),
        ({"_contains": {"y": [{"k": [1]}]}}, False),
        ({"_contains": {"y": 1}}, False),
        ({"_contains": {"o": {"l": {}}}}, True),
        ({"_contains": {"o": {"l": []}}}, False),
        ({"_contains": {}}, True),
        ({"_contains": []}, False),
        ({"_contains": "x"}, False),
        ({"_contained_in": {**STORED, "more": 1}}, True),
        ({"_contained_in": {"x": 77}}, False),
        ({"_eq": dict(reversed(STORED.items()))}, True),
        ({"_eq": {**STORED, "x": 77.0}}, True),
        ({"_eq": {**STORED, "x": True}}, False),
        ({"_eq": {**STORED, "y": [2, 1, {"k": [True, None]}]}}, False),
        ({"_neq": dict(reversed(STORED.items()))}, False),
        ({"_in": [1, dict(reversed(STORED.items()))]}, True),
        ({"_nin": [1, dict(reversed(STORED.items()))]}, False),
        ({"_nin": [1, {}]}, True),
        ({"_has_key": "n"}, True),
        ({"_has_key": "k"}, False),
        ({"_has_keys_all": ["x", "y"]}, True),
        ({"_has_keys_all": ["x", "z"]}, False),
        ({"_has_keys_any": ["z", "y"]}, True),
        ({"_has_keys_any": ["z"]}, False),
    ],
)
def test_objects_as_postgresql_compares_them(jsonb: LocalApi, where: dict[str, Any], fits: bool) -> None:
    query = "query($w: jsonb_comparison_exp) { flow_run(where: {parameters: $w}) { id } }"
    assert len(jsonb.graphql(query, {"w": where})["flow_run"]) == fits


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ('{_contains: "a"}', True),
        ('{_contains: ["a", "b"]}', True),
        ('{_contains: "c"}', False),
        ('{_has_key: "a"}', True),
        ('{_contained_in: ["c", "b", "a"]}', True),
        ('{_eq: ["b", "a"]}', False),
        ('{_eq: ["a", "b"]}', True),
    ],
)
def test_lists_as_postgresql_compares_them(jsonb: LocalApi, where: str, fits: bool) -> None:
    assert len(jsonb.graphql(f"{{ flow_run(where: {{labels: {where}}}) {{ id }} }}")["flow_run"]) == fits


@pytest.mark.parametrize(
    ("value", "pattern", "fits"),
    [
        ("abc", "abc", True),
        ("abc", "ab", False),
        ("abc", "%", True),
        ("abc", "a%c", True),
        ("abc", "a_c", True),
        ("abc", "%b%", True),
        ("aXbXc", "a%b%c", True),
        ("abcabc", "%abc", True),
        ("ab", "ab%ab", False),
        ("a%c", "a\\%c", True),
        ("abc", "a\\%c", False),
        ("a\nb", "a_b", True),
        ("ab", "%a_b", False),
        ("xaab", "%a_b", True),
        ("ab.b", "%_.b", True),
        ("", "", True),
        ("", "_", False),
    ],
)
def test_patterns(value: str, pattern: str, fits: bool) -> None:
    assert like.like(value, pattern) == fits


@pytest.mark.parametrize("pattern", ["%_" * 64, "%a" * 64, "%a_" * 42, "a%" * 60 + "b", "%" * 128])
def test_a_pattern_takes_no_longer_for_being_clever(pattern: str) -> None:
    # With backtracking the first takes longer than anybody has lived.
    like.like("a" * 100_000, pattern)


def test_an_order_by_many_things_is_refused(api: LocalApi) -> None:
    with pytest.raises(ApiError, match="ordered by 21 things; at most 20"):
        names(api, f"order_by: [{'{flow: {name: asc}} ' * 21}]")


def test_a_long_pattern_is_refused(api: LocalApi) -> None:
    with pytest.raises(ApiError, match="at most 128 characters, not 129"):
        names(api, f'where: {{name: {{_ilike: "{"x" * 129}"}}}}')
