"""Answers have the shape and the types that the schema says: graphql-core's own executor makes the same of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from graphql import GraphQLResolveInfo, execute_sync, parse

from api.server.local import LocalApi
from local_agent.server.engine import the_schema

EVERYTHING = """
query {
  __typename
  runs: flow_run(order_by: [{ created: asc }]) {
    __typename id name state version auto_scheduled heartbeat labels parameters serialized_state context run_config
    agent { id }
    flow { __typename name archived settings tasks { slug mapped tags is_root_task } project { name } }
    states(order_by: { version: asc }, limit: 1) { __typename state version serialized_state }
    task_runs_aggregate { __typename aggregate { __typename count } nodes { __typename id state } }
  }
  flow_run_aggregate(where: { state: { _eq: "Scheduled" } }) { aggregate { count } nodes { name } }
  nothing: flow_by_pk(id: "00000000-0000-4000-8000-000000000000") { id }
  none: agent { id }
  hello
  api { __typename backend release_timestamp }
}
"""


def same_by_graphql_core(query: str, data: dict[str, Any]) -> str:
    """Return the data as graphql-core's executor makes it of our own, as JSON text."""

    def selected(source: dict[str, Any], info: GraphQLResolveInfo[Any], **_arguments: object) -> object:
        return source[str(info.path.key)]

    result = execute_sync(the_schema(), parse(query), root_value=data, field_resolver=selected)
    assert not result.errors
    return json.dumps(result.data)


def test_a_query_has_what_the_schema_says(api: LocalApi) -> None:
    flow = api.create_flow(tasks=("a-1", "b-1"))
    api.create_flow_run(flow, name='Ä 🎉 "quoted" \\ line\nline', parameters={"n": [1, 2.5, None, True]})
    api.set_state(api.create_flow_run(flow), "Running")
    data = api.graphql(EVERYTHING)
    assert data["runs"][0]["name"] == 'Ä 🎉 "quoted" \\ line\nline'
    assert json.dumps(data) == same_by_graphql_core(EVERYTHING, data)


def test_a_mutation_has_what_the_schema_says(api: LocalApi) -> None:
    run = api.create_flow_run(api.create_flow())
    query = f"""mutation {{
      __typename
      first: set_flow_run_states(input: {{ states: [{{ flow_run_id: "{run}", state: {{ type: "Running" }} }}] }})
        {{ __typename those: states {{ __typename id why: message status }} }}
      second: update_flow_run_heartbeat(input: {{ flow_run_id: "{run}" }}) {{ error success }}
    }}"""
    data = api.graphql(query)
    those = {"__typename": "set_flow_run_state_payload", "id": run, "why": None, "status": "SUCCESS"}
    assert data["first"]["those"] == [those]
    assert json.dumps(data) == same_by_graphql_core(query, data)


def test_questions_about_the_schema_beside_others(api: LocalApi) -> None:
    query = """query($name: String!) {
      hello
      __schema { queryType { name } }
      kind: __type(name: $name) { ...some }
    }
    fragment some on __Type { kind name }"""
    assert api.graphql(query, {"name": "uuid"}) == {
        "hello": "👋",
        "__schema": {"queryType": {"name": "Query"}},
        "kind": {"kind": "SCALAR", "name": "uuid"},
    }


def test_an_error_in_a_list_leaves_no_data(api: LocalApi) -> None:
    # A list of rows is never null, so GraphQL has it that there is no data at all then.
    status, answer = api.post({"query": "{ hello flow_run(order_by: { labels: asc, flow: { tags: asc } }) { id } }"})
    assert status == 400
    status, answer = api.post({"query": '{ hello flow_run(limit: 1, where: { start_time: { _eq: "x" } }) { id } }'})
    assert (status, answer["errors"][0]["extensions"]["code"]) == (400, "GRAPHQL_VALIDATION_FAILED")


def test_an_error_in_a_nullable_field_leaves_the_others(api: LocalApi) -> None:
    run = api.create_flow_run(api.create_flow())
    query = f"""mutation {{
      bad: cancel_flow_run(input: {{ flow_run_id: "00000000-0000-4000-8000-000000000000" }}) {{ state }}
      good: cancel_flow_run(input: {{ flow_run_id: "{run}" }}) {{ state }}
    }}"""
    _, answer = api.post({"query": query})
    assert answer["data"] == {"bad": None, "good": {"state": "Cancelled"}}
    assert [error["path"] for error in answer["errors"]] == [["bad"]]
    assert api.state(run) == "Cancelled"


@pytest.mark.parametrize("value", ["null", '{"id": null}', "{}"])
def test_a_key_that_is_null_finds_nothing(api: LocalApi, value: str) -> None:
    api.create_flow_run(api.create_flow())
    query = 'query($id: uuid = "00000000-0000-4000-8000-000000000000") { flow_run_by_pk(id: $id) { id } }'
    _, answer = api.post({"query": query, "variables": value})
    assert answer["data"] == {"flow_run_by_pk": None}


def test_a_query_nested_too_deeply_is_no_fault_of_the_data_file(api: LocalApi) -> None:
    where: dict[str, Any] = {}
    for _ in range(100):
        where = {"_not": where}
    query = "query($where: flow_run_bool_exp) { flow_run(where: $where) { id } }"
    _, answer = api.post({"query": query, "variables": {"where": where}})
    assert [error["message"] for error in answer["errors"]] == ["A filter is nested more than 30 deep"]
    assert api.said == []
