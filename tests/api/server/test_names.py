"""Operations and their types have the names that the real Server gives them: documents of other clients name them."""

from __future__ import annotations

import pytest
from graphql import GraphQLInputObjectType, GraphQLObjectType, get_named_type, is_required_input_field

from api.server.local import LocalApi
from local_agent.server.graphql import schema
from local_agent.server.operations.registry import MUTATIONS

_SUCCESS = {"success": "Boolean", "error": "String"}
_ID = {"id": "UUID"}
_INFO = {"id": "UUID", "version": "Int", "state": "String", "serialized_state": "JSON"}
_STATE = {"id": "UUID", "status": "String", "message": "String"}

# What each type has, as the schema of PrefectHQ/server says it (cd87420); those of keys and values are Cloud's.
PAYLOADS = {
    "agent_config_id_payload": _ID,
    "agent_id_payload": _ID,
    "cancel_flow_run_payload": {"state": "String"},
    "flow_id_payload": _ID,
    "flow_run_id_payload": _ID,
    "get_or_create_task_run_info_payload": _INFO,
    "key_value_id_payload": _ID,
    "project_id_payload": _ID,
    "runs_in_queue_payload": {"flow_run_ids": "[String!]"},
    "set_flow_run_state_payload": _STATE,
    "set_flow_run_states_payload": {"states": "[set_flow_run_state_payload!]"},
    "set_task_run_state_payload": _STATE,
    "set_task_run_states_payload": {"states": "[set_task_run_state_payload!]"},
    "success_payload": _SUCCESS,
    "task_run_artifact_id_payload": _ID,
    "task_run_id_payload": _ID,
    "task_run_info_payload": _INFO,
    "tenant_id_payload": _ID,
}

# All that answer with something else than success_payload.
ANSWERS = {
    "cancel_flow_run": "cancel_flow_run_payload",
    "create_agent_config": "agent_config_id_payload",
    "create_flow": "flow_id_payload",
    "create_flow_from_compressed_string": "flow_id_payload",
    "create_flow_run": "flow_run_id_payload",
    "create_project": "project_id_payload",
    "create_task_run_artifact": "task_run_artifact_id_payload",
    "create_tenant": "tenant_id_payload",
    "get_or_create_task_run": "task_run_id_payload",
    "get_or_create_task_run_info": "get_or_create_task_run_info_payload",
    "get_runs_in_queue": "runs_in_queue_payload",
    "register_agent": "agent_id_payload",
    "set_flow_run_states": "set_flow_run_states_payload",
    "set_key_value": "key_value_id_payload",
    "set_project_description": "project_id_payload",
    "set_project_name": "project_id_payload",
    "set_task_run_states": "set_task_run_states_payload",
}

# What each input takes; "!" says that it must be there.
INPUTS = {
    "archive_flow": "flow_id!",
    "cancel_flow_run": "flow_run_id!",
    "create_agent_config": "tenant_id! name settings",
    "create_flow": "serialized_flow! project_id! version_group_id set_schedule_active description idempotency_key",
    "create_flow_from_compressed_string": "serialized_flow! project_id! version_group_id set_schedule_active"
    " description idempotency_key",
    "create_flow_run": "flow_id parameters labels run_config context scheduled_start_time idempotency_key"
    " flow_run_name version_group_id",
    "create_project": "tenant_id! name! description",
    "create_task_run_artifact": "task_run_id! kind! data! tenant_id",
    "create_tenant": "name! slug!",
    "delete_agent": "agent_id!",
    "delete_agent_config": "agent_config_id!",
    "delete_flow": "flow_id!",
    "delete_flow_group": "flow_group_id!",
    "delete_flow_run": "flow_run_id!",
    "delete_project": "project_id!",
    "delete_task_run_artifact": "task_run_artifact_id!",
    "disable_flow_heartbeat": "flow_id!",
    "disable_flow_lazarus_process": "flow_id!",
    "enable_flow_heartbeat": "flow_id!",
    "enable_flow_lazarus_process": "flow_id!",
    "get_or_create_task_run": "flow_run_id! task_id! map_index",
    "get_or_create_task_run_info": "flow_run_id! task_id! map_index",
    "get_runs_in_queue": "tenant_id! before labels",
    "register_agent": "tenant_id labels agent_config_id type! name",
    "register_edges": "serialized_edges! flow_id!",
    "register_tasks": "serialized_tasks! flow_id!",
    "set_flow_group_default_parameters": "flow_group_id! parameters!",
    "set_flow_group_description": "flow_group_id! description",
    "set_flow_group_labels": "flow_group_id! labels",
    "set_flow_group_run_config": "flow_group_id! run_config",
    "set_flow_run_labels": "flow_run_id! labels!",
    "set_flow_run_name": "flow_run_id! name!",
    "set_flow_run_states": "states!",
    "set_project_description": "project_id! description",
    "set_project_name": "project_id! name!",
    "set_schedule_active": "flow_id!",
    "set_schedule_inactive": "flow_id!",
    "set_task_run_name": "task_run_id! name!",
    "set_task_run_states": "states!",
    "update_agent_config": "agent_config_id! name settings",
    "update_flow_run_heartbeat": "flow_run_id!",
    "update_task_run_artifact": "task_run_artifact_id! data!",
    "update_task_run_heartbeat": "task_run_id!",
    "write_run_logs": "logs!",
}

CLOUDS = {"set_secret", "delete_secret", "set_key_value", "delete_key_value"}

SCHEMA = schema.build()


def test_every_mutation_is_in_the_list() -> None:
    assert set(MUTATIONS) == set(INPUTS) | CLOUDS


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_what_a_mutation_answers_with(name: str) -> None:
    assert SCHEMA.mutation_type is not None
    found = SCHEMA.mutation_type.fields[name].type
    assert str(found) == ANSWERS.get(name, "success_payload")


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_what_a_payload_has(name: str) -> None:
    found = SCHEMA.type_map[name]
    assert isinstance(found, GraphQLObjectType)
    assert {field: str(kind.type) for field, kind in found.fields.items()} == PAYLOADS[name]


def test_there_is_no_payload_of_another_name() -> None:
    assert {name for name in SCHEMA.type_map if name.endswith("_payload")} == set(PAYLOADS)


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_what_an_input_takes(name: str) -> None:
    assert SCHEMA.mutation_type is not None
    given = SCHEMA.mutation_type.fields[name].args["input"].type
    assert str(given) == f"{name}_input!"
    kind = get_named_type(given)
    assert isinstance(kind, GraphQLInputObjectType)
    found = {f"{field}{'!' if is_required_input_field(each) else ''}" for field, each in kind.fields.items()}
    assert found == set(INPUTS[name].split())


def test_a_document_may_name_the_servers_type(api: LocalApi) -> None:
    run = api.create_flow_run(api.create_flow())
    query = f"""mutation {{ set_task_run_states(input: {{ states: [] }}) {{ ...none }}
      set_flow_run_states(input: {{ states: [{{ flow_run_id: "{run}", state: {{ type: "Running" }} }}] }})
        {{ ... on set_flow_run_states_payload {{ states {{ __typename }} }} }} }}
    fragment none on set_task_run_states_payload {{ states {{ ... on set_task_run_state_payload {{ id }} }} }}"""
    states = [{"__typename": "set_flow_run_state_payload"}]
    assert api.graphql(query) == {"set_task_run_states": {"states": []}, "set_flow_run_states": {"states": states}}
