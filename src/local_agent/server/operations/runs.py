"""Flow runs and task runs: creating, naming, heartbeats, deleting. What happens to their states is in states.py."""

from __future__ import annotations

import json
from typing import Any

from local_agent.server.asking.request import Request
from local_agent.server.data import labels
from local_agent.server.data.database import new_id
from local_agent.server.data.reads import Row
from local_agent.server.input import shapes
from local_agent.server.input.refusals import RefusedError
from local_agent.server.operations import names, serialized, states


def create_flow_run(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Create a flow run, Scheduled; the same idempotency key again returns the run that is there."""
    flow = _flow_to_run(request, given)
    key = given.get("idempotency_key")
    if key is not None:
        sql = "SELECT id FROM flow_run WHERE flow_id = ? AND idempotency_key = ?"
        existing = request.database.value(sql, (flow["id"], key))
        if existing:
            return {"id": existing}
    return {"id": _insert_flow_run(request, flow, given)}


def _flow_to_run(request: Request, given: dict[str, Any]) -> Row:
    columns = (
        "SELECT f.id, f.tenant_id, f.archived, f.run_config, f.environment, f.parameters,"
        " g.labels AS group_labels, g.run_config AS group_run_config, g.default_parameters"
        " FROM flow f JOIN flow_group g ON g.id = f.flow_group_id"
    )
    flow_id, group = given.get("flow_id"), given.get("version_group_id")
    if flow_id:
        flow = request.database.row(f"{columns} WHERE f.id = ?", (flow_id,))
        if flow is None:
            raise RefusedError(f"Flow {flow_id} not found")
    elif group:
        newest = f"{columns} WHERE f.version_group_id = ? AND NOT f.archived ORDER BY f.version DESC"
        flow = request.database.row(newest, (group,))
        if flow is None:
            raise RefusedError(f"Version group {group} has no unarchived flows.")
    else:
        raise RefusedError("A flow id or version group ID must be provided.")
    if flow["archived"]:
        raise RefusedError(f"Flow {flow['id']} is archived.")
    return flow


def _insert_flow_run(request: Request, flow: Row, given: dict[str, Any]) -> str:
    database = request.database
    now = database.now()
    start_time = given.get("scheduled_start_time") or now
    run_config = serialized.run_config(given.get("run_config"), "run_config")
    run_id = database.insert(
        "flow_run",
        tenant_id=flow["tenant_id"],
        flow_id=flow["id"],
        name=given.get("flow_run_name") or names.new_name(),
        labels=_labels(flow, given),
        parameters=_parameters(flow, shapes.mapping_or_none(given.get("parameters"), "parameters") or {}),
        context=shapes.mapping_or_none(given.get("context"), "context") or {},
        run_config=_run_config(flow) if run_config is None else run_config,
        scheduled_start_time=start_time,
        idempotency_key=given.get("idempotency_key"),
    )
    _insert_task_runs(request, flow, run_id)
    scheduled = states.made("Scheduled", "Flow run scheduled.", now, start_time=start_time)
    states.set_flow_run_state(request, run_id, scheduled)
    return run_id


def _load(text: str | None) -> Any:  # noqa: ANN401 - any JSON value
    return None if text is None else json.loads(text)


def _labels(flow: Row, given: dict[str, Any]) -> list[str]:
    """The first of these that is there: the request's own, its run config's, the group's, the flow's."""
    if given.get("labels") is not None:
        return labels.sorted_once(given["labels"])
    group_labels = _load(flow["group_labels"])
    if given.get("run_config") is None and group_labels is not None:
        return labels.sorted_once(shapes.texts(group_labels, "the flow group's labels"))
    configs = (
        (given.get("run_config"), "run_config"),
        (_load(flow["group_run_config"]), "the flow group's run_config"),
        (_load(flow["run_config"]), "the flow's run_config"),
        (_load(flow["environment"]), "the flow's environment"),
    )
    for config, whose in configs:
        if config is not None:
            return labels.sorted_once(shapes.texts(shapes.mapping(config, whose).get("labels"), f"{whose}.labels"))
    return []


def _run_config(flow: Row) -> Any:  # noqa: ANN401 - any JSON value
    of_group = _load(flow["group_run_config"])
    return _load(flow["run_config"]) if of_group is None else of_group


def _parameters(flow: Row, given: dict[str, Any]) -> dict[str, Any]:
    declared = serialized.parameters(_load(flow["parameters"]), "the flow's parameters")
    defaults = {each.name: each.default for each in declared if each.default}
    of_group = shapes.mapping_or_none(_load(flow["default_parameters"]), "the flow group's parameters")
    values = {**defaults, **(of_group or {}), **given}
    missing = sorted(each.name for each in declared if each.is_required and each.name not in values)
    if missing:
        raise RefusedError(f"Required parameters were not supplied: {', '.join(missing)}")
    return values


def _insert_task_runs(request: Request, flow: Row, run_id: str) -> None:
    tasks = request.database.rows(
        "SELECT id, tenant_id, cache_key FROM task WHERE flow_id = ? ORDER BY rowid", (flow["id"],)
    )
    pending = states.made("Pending", "Task run created", request.database.now())
    runs = [_new_task_run(task, run_id, -1, pending, request.database.now()) for task in tasks]
    history = [
        {
            "tenant_id": run["tenant_id"],
            "task_run_id": run["id"],
            "timestamp": run["state_timestamp"],
            "state": pending.type,
            "version": 1,
            "message": pending.message,
            "serialized_state": pending.text,
        }
        for run in runs
    ]
    request.database.insert_many("task_run", runs)
    request.database.insert_many("task_run_state", history)


def _new_task_run(task: Row, run_id: str, map_index: int, state: states.State, now: str) -> dict[str, Any]:
    return {
        "id": new_id(),
        "tenant_id": task["tenant_id"],
        "flow_run_id": run_id,
        "task_id": task["id"],
        "map_index": map_index,
        "cache_key": task["cache_key"],
        # The first state's is 1, as on the real Server.
        "version": 1,
        "state": state.type,
        "state_timestamp": now,
        "state_message": state.message,
        "serialized_state": state.serialized,
    }


def get_or_create_task_run(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Return the id of a task run, made now if need be."""
    return {"id": get_or_create_task_run_info(request, given)["id"]}


def get_or_create_task_run_info(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Return a task run's id and state; one that is not there yet (of a mapped task) is made, Pending."""
    map_index = -1 if given.get("map_index") is None else given["map_index"]
    found = request.database.row(
        "SELECT id, version, state, serialized_state FROM task_run"
        " WHERE flow_run_id = ? AND task_id = ? AND map_index = ?",
        (given["flow_run_id"], given["task_id"], map_index),
    )
    if found is not None:
        return _info(found)
    return _create_task_run(request, given["flow_run_id"], given["task_id"], map_index)


def _create_task_run(request: Request, flow_run_id: str, task_id: str, map_index: int) -> dict[str, Any]:
    database = request.database
    task = database.row("SELECT id, tenant_id, cache_key FROM task WHERE id = ?", (task_id,))
    if task is None:
        raise RefusedError("Invalid task ID")
    if not database.value("SELECT 1 FROM flow_run WHERE id = ?", (flow_run_id,)):
        raise RefusedError("Invalid flow run ID")
    pending = states.made("Pending", "Task run created", database.now())
    run = _new_task_run(task, flow_run_id, map_index, pending, database.now())
    database.insert_many("task_run", [run])
    states.insert_state(request, "task_run", task["tenant_id"], run["id"], pending, 1)
    return {name: run[name] for name in ("id", "version", "state", "serialized_state")}


def _info(run: Row) -> dict[str, Any]:
    return {
        "id": run["id"],
        "version": run["version"],
        "state": run["state"],
        "serialized_state": _load(run["serialized_state"]),
    }


def get_task_run_info(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Return a task run's id and state. Raise RefusedError if there is none."""
    run = request.reads.row(
        "SELECT id, version, state, serialized_state FROM task_run WHERE id = ?", (given["task_run_id"],)
    )
    if run is None:
        raise RefusedError("Invalid task run ID")
    return _info(run)


def set_flow_run_name(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Rename a flow run."""
    return _rename(request, "flow_run", given["flow_run_id"], given["name"])


def set_task_run_name(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Rename a task run."""
    return _rename(request, "task_run", given["task_run_id"], given["name"])


def _rename(request: Request, table: str, run_id: str, name: str) -> dict[str, Any]:
    if not name:
        raise RefusedError("Invalid name")
    return {"success": request.database.update(table, run_id, name=name)}


def set_flow_run_labels(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Give a flow run other labels."""
    return {
        "success": request.database.update("flow_run", given["flow_run_id"], labels=labels.sorted_once(given["labels"]))
    }


def update_flow_run_heartbeat(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Note that a flow run lives. An unknown one is no error: the Server answers before it looks."""
    request.database.update("flow_run", given["flow_run_id"], heartbeat=request.database.now())
    return {"success": True}


def update_task_run_heartbeat(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Note that a task run lives."""
    request.database.update("task_run", given["task_run_id"], heartbeat=request.database.now())
    return {"success": True}


def delete_flow_run(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Delete a flow run with its history, task runs and logs."""
    return {"success": request.database.delete("flow_run", given["flow_run_id"])}
