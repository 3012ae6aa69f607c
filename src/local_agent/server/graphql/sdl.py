"""What the API can be told to do, in the words of GraphQL. Names and types are those of the Prefect 1 API."""

from __future__ import annotations

OPERATIONS = """
scalar JSON
scalar DateTime
scalar UUID

type Query {
  hello: String
  api: api_info
  get_task_run_info(task_run_id: UUID!): task_run_info_payload
  "Who the API key belongs to, as Prefect Cloud says it."
  auth_info: auth_info
  secret_value(name: String!): JSON
}

type api_info {
  backend: String
  mode: String
  version: String
  core_version: String
  release_timestamp: String
}

type auth_info {
  tenant_id: UUID
  user_id: UUID
  api_token_scope: String
}

type Mutation {
  create_tenant(input: create_tenant_input!): tenant_id_payload

  create_project(input: create_project_input!): project_id_payload
  delete_project(input: delete_project_input!): success_payload
  set_project_name(input: set_project_name_input!): project_id_payload
  set_project_description(input: set_project_description_input!): project_id_payload

  create_flow(input: create_flow_input!): flow_id_payload
  "The flow as base64 of gzip of JSON."
  create_flow_from_compressed_string(input: create_flow_from_compressed_string_input!): flow_id_payload
  register_tasks(input: register_tasks_input!): success_payload
  register_edges(input: register_edges_input!): success_payload
  archive_flow(input: archive_flow_input!): success_payload
  delete_flow(input: delete_flow_input!): success_payload
  set_schedule_active(input: set_schedule_active_input!): success_payload
  set_schedule_inactive(input: set_schedule_inactive_input!): success_payload
  enable_flow_heartbeat(input: enable_flow_heartbeat_input!): success_payload
  disable_flow_heartbeat(input: disable_flow_heartbeat_input!): success_payload
  enable_flow_lazarus_process(input: enable_flow_lazarus_process_input!): success_payload
  disable_flow_lazarus_process(input: disable_flow_lazarus_process_input!): success_payload
  set_flow_group_labels(input: set_flow_group_labels_input!): success_payload
  set_flow_group_run_config(input: set_flow_group_run_config_input!): success_payload
  set_flow_group_description(input: set_flow_group_description_input!): success_payload
  set_flow_group_default_parameters(input: set_flow_group_default_parameters_input!): success_payload
  delete_flow_group(input: delete_flow_group_input!): success_payload

  create_flow_run(input: create_flow_run_input!): flow_run_id_payload
  delete_flow_run(input: delete_flow_run_input!): success_payload
  set_flow_run_name(input: set_flow_run_name_input!): success_payload
  set_flow_run_labels(input: set_flow_run_labels_input!): success_payload
  set_task_run_name(input: set_task_run_name_input!): success_payload
  get_or_create_task_run(input: get_or_create_task_run_input!): task_run_id_payload
  get_or_create_task_run_info(input: get_or_create_task_run_info_input!): get_or_create_task_run_info_payload
  update_flow_run_heartbeat(input: update_flow_run_heartbeat_input!): success_payload
  update_task_run_heartbeat(input: update_task_run_heartbeat_input!): success_payload
  get_runs_in_queue(input: get_runs_in_queue_input!): runs_in_queue_payload

  set_flow_run_states(input: set_flow_run_states_input!): set_flow_run_states_payload
  set_task_run_states(input: set_task_run_states_input!): set_task_run_states_payload
  cancel_flow_run(input: cancel_flow_run_input!): cancel_flow_run_payload

  write_run_logs(input: write_run_logs_input!): success_payload

  register_agent(input: register_agent_input!): agent_id_payload
  delete_agent(input: delete_agent_input!): success_payload
  create_agent_config(input: create_agent_config_input!): agent_config_id_payload
  update_agent_config(input: update_agent_config_input!): success_payload
  delete_agent_config(input: delete_agent_config_input!): success_payload

  create_task_run_artifact(input: create_task_run_artifact_input!): task_run_artifact_id_payload
  update_task_run_artifact(input: update_task_run_artifact_input!): success_payload
  delete_task_run_artifact(input: delete_task_run_artifact_input!): success_payload

  set_secret(input: set_secret_input!): success_payload
  delete_secret(input: delete_secret_input!): success_payload
  set_key_value(input: set_key_value_input!): key_value_id_payload
  delete_key_value(input: delete_key_value_input!): success_payload
}

type tenant_id_payload { id: UUID }
type project_id_payload { id: UUID }
type flow_id_payload { id: UUID }
type flow_run_id_payload { id: UUID }
type task_run_id_payload { id: UUID }
type agent_id_payload { id: UUID }
type agent_config_id_payload { id: UUID }
type task_run_artifact_id_payload { id: UUID }
type key_value_id_payload { id: UUID }
type success_payload { success: Boolean error: String }
type runs_in_queue_payload { flow_run_ids: [String!] }
type task_run_info_payload { id: UUID version: Int state: String serialized_state: JSON }
type get_or_create_task_run_info_payload { id: UUID version: Int state: String serialized_state: JSON }
type set_flow_run_state_payload { id: UUID status: String message: String }
type set_flow_run_states_payload { states: [set_flow_run_state_payload!] }
type set_task_run_state_payload { id: UUID status: String message: String }
type set_task_run_states_payload { states: [set_task_run_state_payload!] }
type cancel_flow_run_payload { state: String }

input create_tenant_input { name: String! slug: String! }

input create_project_input { tenant_id: UUID! name: String! description: String }
input delete_project_input { project_id: UUID! }
input set_project_name_input { project_id: UUID! name: String! }
input set_project_description_input { project_id: UUID! description: String }

input create_flow_input {
  serialized_flow: JSON!
  project_id: UUID!
  "A new version of the flow of this group; without it, of the project's flow with the same name."
  version_group_id: String
  set_schedule_active: Boolean
  description: String
  "The same key twice in a row creates one version."
  idempotency_key: String
}
input create_flow_from_compressed_string_input {
  serialized_flow: String!
  project_id: UUID!
  version_group_id: String
  set_schedule_active: Boolean
  description: String
  idempotency_key: String
}
input register_tasks_input { flow_id: UUID! serialized_tasks: JSON! }
input register_edges_input { flow_id: UUID! serialized_edges: JSON! }
input archive_flow_input { flow_id: UUID! }
input delete_flow_input { flow_id: UUID! }
input enable_flow_heartbeat_input { flow_id: UUID! }
input disable_flow_heartbeat_input { flow_id: UUID! }
input enable_flow_lazarus_process_input { flow_id: UUID! }
input disable_flow_lazarus_process_input { flow_id: UUID! }
input set_schedule_active_input { flow_id: UUID! }
input set_schedule_inactive_input { flow_id: UUID! }
input set_flow_group_labels_input { flow_group_id: UUID! labels: [String!] }
input set_flow_group_run_config_input { flow_group_id: UUID! run_config: JSON }
input set_flow_group_description_input { flow_group_id: UUID! description: String }
input set_flow_group_default_parameters_input { flow_group_id: UUID! parameters: JSON! }
input delete_flow_group_input { flow_group_id: UUID! }

input create_flow_run_input {
  flow_id: UUID
  "The newest version of this group that is not archived."
  version_group_id: String
  flow_run_name: String
  parameters: JSON
  context: JSON
  labels: [String!]
  run_config: JSON
  "Absent: now."
  scheduled_start_time: DateTime
  "The same key twice for one flow creates one flow run."
  idempotency_key: String
}
input delete_flow_run_input { flow_run_id: UUID! }
input set_flow_run_name_input { flow_run_id: UUID! name: String! }
input set_flow_run_labels_input { flow_run_id: UUID! labels: [String!]! }
input set_task_run_name_input { task_run_id: UUID! name: String! }
input get_or_create_task_run_input { flow_run_id: UUID! task_id: UUID! map_index: Int }
input get_or_create_task_run_info_input { flow_run_id: UUID! task_id: UUID! map_index: Int }
input update_flow_run_heartbeat_input { flow_run_id: UUID! }
input update_task_run_heartbeat_input { task_run_id: UUID! }
input get_runs_in_queue_input { tenant_id: UUID! before: DateTime labels: [String!] }

"`version` is taken and not looked at, as on the real Server."
input set_flow_run_state_input { flow_run_id: UUID! version: Int state: JSON! }
input set_flow_run_states_input { states: [set_flow_run_state_input!]! }
"Both versions are taken and not looked at."
input set_task_run_state_input { task_run_id: UUID! version: Int flow_run_version: Int state: JSON! }
input set_task_run_states_input { states: [set_task_run_state_input!]! }
input cancel_flow_run_input { flow_run_id: UUID! }

enum log_level { DEBUG INFO WARNING ERROR CRITICAL }
input write_run_log_input {
  flow_run_id: UUID!
  task_run_id: UUID
  timestamp: DateTime
  name: String
  level: log_level
  message: String
  info: JSON
}
input write_run_logs_input { logs: [write_run_log_input!]! }

input register_agent_input {
  tenant_id: UUID
  type: String!
  name: String
  labels: [String!]
  agent_config_id: UUID
}
input delete_agent_input { agent_id: UUID! }
input create_agent_config_input { tenant_id: UUID! name: String settings: JSON }
input update_agent_config_input { agent_config_id: UUID! name: String settings: JSON }
input delete_agent_config_input { agent_config_id: UUID! }

input create_task_run_artifact_input { task_run_id: UUID! kind: String! data: JSON! tenant_id: UUID }
input update_task_run_artifact_input { task_run_artifact_id: UUID! data: JSON! }
input delete_task_run_artifact_input { task_run_artifact_id: UUID! }

input set_secret_input { name: String! value: JSON! }
input delete_secret_input { name: String! }
input set_key_value_input { key: String! value: JSON! }
input delete_key_value_input { key_value_id: UUID! }
"""
