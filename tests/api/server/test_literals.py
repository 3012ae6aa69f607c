"""Texts in documents that become variables: the document is the same for all of them, and means what it did."""

from __future__ import annotations

import json
from typing import Any

import pytest
from graphql import parse, print_ast

from api.server.local import LocalApi
from local_agent.server.engine import the_schema
from local_agent.server.graphql import literals

ONE = "00000000-0000-4000-8000-000000000001"


def test_ids_and_lists_of_ids_leave_one_text() -> None:
    query = 'query {{ flow_run(where: {{ id: {{ _in: {ids} }}, name: {{ _eq: "{name}" }} }}) {{ id }} }}'
    one, values = literals.lift(query.format(ids='["a", "b"]', name="x"))
    other, others = literals.lift(query.format(ids='["c","d" , "e"]', name=""))
    assert one == other
    assert list(values.values()) == [["a", "b"], "x"]
    assert list(others.values()) == [["c", "d", "e"], ""]


def test_the_types_are_those_of_their_places() -> None:
    text, _ = literals.lift(
        'query($n: Int) { flow(limit: $n, where: { id: { _in: ["a"] }, name: { _eq: "b" } }) { id } }'
    )
    declared = literals.declare(parse(text), the_schema())
    assert declared is not None
    assert print_ast(declared).startswith("query ($n: Int, $literal__0: [uuid!], $literal__1: String) {")


@pytest.mark.parametrize(
    "query",
    [
        'query { flow(where: { name: { _eq: """block""" } }) { id } }',
        'query { flow(where: { name: { _eq: "with \\" in it" } }) { id } }',
        "query { flow { id } }",
        'query { flow { id } } # a comment with "quotes"',
    ],
)
def test_texts_that_stay(query: str) -> None:
    assert literals.lift(query) == (query, {})


@pytest.mark.parametrize(
    "query",
    [
        'query a { flow(where: { name: { _eq: "x" } }) { id } } query b { hello }',
        'query { flow(where: { name: { _eq: "x" } }) { ...f } } fragment f on flow { id }',
        'mutation { create_flow_run(input: { parameters: { deep: ["x"] } }) { id } }',
        'query { flow(order_by: { name: "asc" }) { id } }',
    ],
)
def test_documents_that_are_taken_as_they_came(query: str) -> None:
    lifted, values = literals.lift(query)
    assert values
    assert literals.declare(parse(lifted), the_schema()) is None


def test_a_default_is_taken_as_it_came(api: LocalApi) -> None:
    api.create_flow("x")
    query = 'query($n: String = "x") { flow(where: { name: { _eq: $n } }) { name } }'
    assert api.graphql(query) == {"flow": [{"name": "x"}]}


def where(api: LocalApi, condition: str) -> list[str]:
    """Return the names of the flows that a condition picks."""
    found: list[dict[str, Any]] = api.graphql(
        f"query {{ flow(where: {condition}, order_by: {{name: asc}}) {{ name }} }}"
    )["flow"]
    return [flow["name"] for flow in found]


@pytest.fixture
def named(api: LocalApi) -> LocalApi:
    for name in ("", "$literal", 'say "hi"', "tab\tbed", "#1", "ä🎉"):
        api.create_flow(name or "x")
    return api


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('{ name: { _eq: "x" } }', ["x"]),
        ('{ name: { _eq: "say \\"hi\\"" } }', ['say "hi"']),
        ('{ name: { _eq: "tab\\tbed" } }', ["tab\tbed"]),
        ('{ name: { _eq: """x""" } }', ["x"]),
        ('{ name: { _in: ["x", "say \\"hi\\"", "#1"] } }', ["#1", 'say "hi"', "x"]),
        ('{ name: { _in: "x" } }', ["x"]),
        ("{ name: { _in: [] } }", []),
        ('{ name: { _eq: "#1" } # "x"\n }', ["#1"]),
        ('{ name: { _eq: "$literal" } }', ["$literal"]),
        ('{ name: { _like: "%🎉" } }', ["ä🎉"]),
        ('{ _or: [{ name: { _eq: "x" } }, { name: { _eq: "#1" } }] }', ["#1", "x"]),
    ],
)
def test_they_mean_what_they_did(named: LocalApi, condition: str, expected: list[str]) -> None:
    for _ in range(2):  # the second time the document is known
        assert where(named, condition) == expected


def test_a_wrong_one_is_refused_in_the_documents_own_terms(api: LocalApi) -> None:
    query = 'query {{ flow_run(where: {{ id: {{ _in: ["{id}"] }} }}) {{ id }} }}'
    assert api.graphql(query.format(id=ONE)) == {"flow_run": []}
    for wrong in ("12", "", "x" * 36):
        status, answer = api.post({"query": query.format(id=wrong)})
        assert status == 400
        (error,) = answer["errors"]
        assert error["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
        assert f"'{wrong}' is no UUID" in error["message"]


def test_they_go_together_with_variables(api: LocalApi) -> None:
    api.create_flow("one")
    api.create_flow("two")
    query = 'query($a: String!, $n: Int) { flow(limit: $n, where: { name: { _in: ["one", $a] } }) { name } }'
    _, answer = api.post({"query": query, "variables": json.dumps({"a": "two", "n": 5})})
    assert sorted(flow["name"] for flow in answer["data"]["flow"]) == ["one", "two"]


@pytest.mark.parametrize("text", ['"\\', '["a", ', "\\\\", '"', '["a"[', '# " ', '"a\n'])
def test_no_text_is_looked_at_again_and_again(text: str) -> None:
    # Looked for from each quotation mark anew, the end of the first takes minutes.
    literals.lift('{ hello(a: "' + text * 100_000)
