"""Which function answers which operation."""

from __future__ import annotations

import uuid
from typing import Any

from local_agent import __version__
from local_agent.server.asking.request import Request
from local_agent.server.graphql.execution import Handler
from local_agent.server.input.refusals import RefusedError
from local_agent.server.operations import agents, extras, flows, logs, projects, queue, runs, states


def _hello(_request: Request, _given: dict[str, Any]) -> str:
    return "👋"


def _api(_request: Request, _given: dict[str, Any]) -> dict[str, Any]:
    return {
        "backend": "SERVER",
        "mode": "normal",
        "version": f"local-agent {__version__}",
        "core_version": states.CORE_VERSION,
        "release_timestamp": None,
    }


def _auth_info(request: Request, _given: dict[str, Any]) -> dict[str, Any]:
    if not request.keyed:
        raise RefusedError("This API has no API key: use it as a Prefect Server (prefect backend server)")
    tenant_id = request.tenant_id()
    # There are no users here; Prefect asks for one when it makes keys.
    user_id = str(uuid.uuid5(uuid.UUID(tenant_id), "user"))
    return {"tenant_id": tenant_id, "user_id": user_id, "api_token_scope": "USER"}


QUERIES: dict[str, Handler] = {
    "hello": _hello,
    "api": _api,
    "auth_info": _auth_info,
    "get_task_run_info": runs.get_task_run_info,
    "secret_value": extras.secret_value,
}

MUTATIONS: dict[str, Handler] = {
    "create_tenant": projects.create_tenant,
    "create_project": projects.create_project,
    "delete_project": projects.delete_project,
    "set_project_name": projects.set_project_name,
    "set_project_description": projects.set_project_description,
    "create_flow": flows.create_flow,
    "create_flow_from_compressed_string": flows.create_flow_from_compressed_string,
    "register_tasks": flows.register_tasks,
    "register_edges": flows.register_edges,
    "archive_flow": flows.archive_flow,
    "delete_flow": flows.delete_flow,
    "set_schedule_active": flows.set_schedule_active,
    "set_schedule_inactive": flows.set_schedule_inactive,
    "enable_flow_heartbeat": flows.enable_heartbeat,
    "disable_flow_heartbeat": flows.disable_heartbeat,
    "enable_flow_lazarus_process": flows.enable_lazarus,
    "disable_flow_lazarus_process": flows.disable_lazarus,
    "set_flow_group_labels": flows.set_group_labels,
    "set_flow_group_run_config": flows.set_group_run_config,
    "set_flow_group_description": flows.set_group_description,
    "set_flow_group_default_parameters": flows.set_group_default_parameters,
    "delete_flow_group": flows.delete_group,
    "create_flow_run": runs.create_flow_run,
    "delete_flow_run": runs.delete_flow_run,
    "set_flow_run_name": runs.set_flow_run_name,
    "set_flow_run_labels": runs.set_flow_run_labels,
    "set_task_run_name": runs.set_task_run_name,
    "get_or_create_task_run": runs.get_or_create_task_run,
    "get_or_create_task_run_info": runs.get_or_create_task_run_info,
    "update_flow_run_heartbeat": runs.update_flow_run_heartbeat,
    "update_task_run_heartbeat": runs.update_task_run_heartbeat,
    "get_runs_in_queue": queue.get_runs_in_queue,
    "set_flow_run_states": states.set_flow_run_states,
    "set_task_run_states": states.set_task_run_states,
    "cancel_flow_run": states.cancel_flow_run,
    "write_run_logs": logs.write_run_logs,
    "register_agent": agents.register_agent,
    "delete_agent": agents.delete_agent,
    "create_agent_config": agents.create_agent_config,
    "update_agent_config": agents.update_agent_config,
    "delete_agent_config": agents.delete_agent_config,
    "create_task_run_artifact": extras.create_task_run_artifact,
    "update_task_run_artifact": extras.update_task_run_artifact,
    "delete_task_run_artifact": extras.delete_task_run_artifact,
    "set_secret": extras.set_secret,
    "delete_secret": extras.delete_secret,
    "set_key_value": extras.set_key_value,
    "delete_key_value": extras.delete_key_value,
}
