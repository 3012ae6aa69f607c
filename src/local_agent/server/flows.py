"""Registering flows, and flow groups: what all versions of one flow have in common."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Any

from local_agent.server import states
from local_agent.server.database import new_id
from local_agent.server.reads import Row
from local_agent.server.refusals import RefusedError
from local_agent.server.request import Request

# What a compressed flow may unpack to: far beyond any real flow, and still far from filling the memory.
_MOST_BYTES = 64_000_000


def create_flow_from_compressed_string(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Register a flow that comes as base64 of gzip of JSON, as Prefect sends it."""
    try:
        serialized = json.loads(_unpacked(base64.b64decode(given["serialized_flow"])))
    except (ValueError, zlib.error, binascii.Error, EOFError, OSError):
        raise RefusedError("Unable to decompress serialized flow") from None
    return create_flow(request, {**given, "serialized_flow": serialized})


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    unpacked = unpacker.decompress(data, _MOST_BYTES)
    if unpacker.unconsumed_tail:
        raise RefusedError(f"The serialized flow is larger than {_MOST_BYTES} bytes")
    return unpacked


def create_flow(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Register a flow, or a new version of one; the versions before it are archived."""
    flow = given["serialized_flow"]
    if not isinstance(flow, dict) or not flow.get("name"):
        raise RefusedError("A serialized flow must be an object with a name")
    project = request.database.row("SELECT id, tenant_id FROM project WHERE id = ?", (given["project_id"],))
    if project is None:
        raise RefusedError("Invalid project.")
    version_group_id = given.get("version_group_id") or _version_group(request, project, flow) or new_id()
    group_id, existing = _group(request, project["tenant_id"], version_group_id, given.get("idempotency_key"))
    if existing:
        return {"id": existing}
    flow_id = _insert_flow(request, project, group_id, version_group_id, given)
    _archive_others(request, version_group_id, flow_id)
    if given.get("set_schedule_active", True):
        set_schedule_active(request, {"flow_id": flow_id})
    return {"id": flow_id}


def _version_group(request: Request, project: Row, flow: dict[str, Any]) -> str | None:
    found = request.database.value(
        "SELECT version_group_id FROM flow WHERE project_id = ? AND name = ? ORDER BY created DESC, rowid DESC",
        (project["id"], flow["name"]),
    )
    return None if found is None else str(found)


def _group(request: Request, tenant_id: str, name: str, key: str | None) -> tuple[str, str | None]:
    """Return the flow group of this name, made if need be, and its flow if this very registration was made before."""
    database = request.database
    group = database.row("SELECT id, settings FROM flow_group WHERE tenant_id = ? AND name = ?", (tenant_id, name))
    if group is None:
        settings = {
            "heartbeat_enabled": True,
            "lazarus_enabled": True,
            "version_locking_enabled": False,
            "idempotency_key": key,
        }
        return database.insert("flow_group", tenant_id=tenant_id, name=name, settings=settings), None
    settings = json.loads(group["settings"])
    if key and settings.get("idempotency_key") == key:
        newest = "SELECT id FROM flow WHERE version_group_id = ? AND NOT archived ORDER BY version DESC"
        existing = database.value(newest, (name,))
        if existing:
            return group["id"], str(existing)
    database.update("flow_group", group["id"], settings={**settings, "idempotency_key": key})
    return group["id"], None


def _insert_flow(request: Request, project: Row, group_id: str, version_group_id: str, given: dict[str, Any]) -> str:
    flow = given["serialized_flow"]
    newest = "SELECT coalesce(max(version), 0) FROM flow WHERE tenant_id = ? AND version_group_id = ?"
    flow_id = request.database.insert(
        "flow",
        tenant_id=project["tenant_id"],
        project_id=project["id"],
        flow_group_id=group_id,
        name=flow["name"],
        description=given.get("description"),
        version=request.database.value(newest, (project["tenant_id"], version_group_id)) + 1,
        version_group_id=version_group_id,
        core_version=flow.get("__version__"),
        serialized_flow=flow,
        environment=flow.get("environment"),
        run_config=flow.get("run_config"),
        storage=flow.get("storage"),
        parameters=flow.get("parameters") or [],
        schedule=flow.get("schedule"),
    )
    _insert_tasks(request, flow_id, flow.get("tasks") or [])
    _insert_edges(request, flow_id, flow.get("edges") or [])
    return flow_id


def _flow(request: Request, flow_id: str) -> Row:
    flow = request.database.row("SELECT id, tenant_id, serialized_flow FROM flow WHERE id = ?", (flow_id,))
    if flow is None:
        raise RefusedError("Invalid flow ID")
    return flow


def register_tasks(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Add tasks to a flow; those it has already stay as they are. Prefect sends a large flow's tasks in batches."""
    flow = _flow(request, given["flow_id"])
    tasks = _objects(given["serialized_tasks"], "tasks")
    serialized = json.loads(flow["serialized_flow"])
    known = serialized.get("tasks") or []
    slugs = {task.get("slug") for task in known}
    serialized["tasks"] = known + [task for task in tasks if task.get("slug") not in slugs]
    request.database.update("flow", flow["id"], serialized_flow=serialized)
    _insert_tasks(request, flow["id"], tasks)
    return {"success": True}


def register_edges(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Add edges to a flow, between tasks that it has."""
    flow = _flow(request, given["flow_id"])
    _insert_edges(request, flow["id"], _objects(given["serialized_edges"], "edges"))
    return {"success": True}


def _objects(value: object, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise RefusedError(f"The serialized {what} must be a list of objects")
    return value


def _insert_tasks(request: Request, flow_id: str, tasks: list[dict[str, Any]]) -> None:
    tenant_id = _flow(request, flow_id)["tenant_id"]
    rows = [_task(task, flow_id, tenant_id) for task in tasks]
    request.database.insert_many("task", rows, or_ignore=True)


def _task(task: dict[str, Any], flow_id: str, tenant_id: str) -> dict[str, Any]:
    if not task.get("slug"):
        raise RefusedError("Every task needs a slug")
    trigger = task.get("trigger")
    retry_delay = task.get("retry_delay")
    return {
        "tenant_id": tenant_id,
        "flow_id": flow_id,
        "name": task.get("name"),
        "slug": task["slug"],
        "type": task.get("type"),
        "max_retries": task.get("max_retries") or 0,
        "retry_delay": None if retry_delay is None else str(retry_delay),
        "trigger": trigger.get("fn") if isinstance(trigger, dict) else trigger,
        "tags": task.get("tags") or [],
        "mapped": bool(task.get("mapped")),
        "auto_generated": bool(task.get("auto_generated")),
        "cache_key": task.get("cache_key"),
        "is_reference_task": bool(task.get("is_reference_task")),
        "is_root_task": bool(task.get("is_root_task")),
        "is_terminal_task": bool(task.get("is_terminal_task")),
    }


def _insert_edges(request: Request, flow_id: str, edges: list[dict[str, Any]]) -> None:
    if not edges:
        return
    tenant_id = _flow(request, flow_id)["tenant_id"]
    tasks = request.database.rows("SELECT slug, id FROM task WHERE flow_id = ?", (flow_id,))
    ids = {task["slug"]: task["id"] for task in tasks}
    try:
        rows = [_edge(edge, flow_id, tenant_id, ids) for edge in edges]
    except KeyError as error:
        raise RefusedError(
            "Edges could not be registered - some edges reference tasks that do not exist within this flow:"
            f" {error.args[0]}"
        ) from None
    request.database.insert_many("edge", rows, or_ignore=True)


def _edge(edge: dict[str, Any], flow_id: str, tenant_id: str, ids: dict[str, str]) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "flow_id": flow_id,
        "upstream_task_id": ids[_slug(edge.get("upstream_task"))],
        "downstream_task_id": ids[_slug(edge.get("downstream_task"))],
        "key": edge.get("key"),
        "mapped": bool(edge.get("mapped")),
    }


def _slug(task: object) -> str:
    """Prefect names an edge's tasks as objects with a slug and nothing else."""
    return str(task.get("slug") if isinstance(task, dict) else task)


def _archive_others(request: Request, version_group_id: str, flow_id: str) -> None:
    others = request.database.rows(
        "SELECT id FROM flow WHERE version_group_id = ? AND id <> ? AND NOT archived", (version_group_id, flow_id)
    )
    for other in others:
        archive_flow(request, {"flow_id": other["id"]})


def archive_flow(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Archive a flow: it cannot be run any more, and its runs that have not begun are cancelled."""
    flow_id = given["flow_id"]
    database = request.database
    if not database.update("flow", flow_id, archived=True):
        return {"success": False}
    _forget_scheduled(request, flow_id)
    waiting = database.rows("SELECT id FROM flow_run WHERE flow_id = ? AND state = 'Scheduled'", (flow_id,))
    for run in waiting:
        states.cancel(request, run["id"], f"Flow {flow_id} was archived.")
    return {"success": True}


def _forget_scheduled(request: Request, flow_id: str) -> None:
    request.database.write(
        "DELETE FROM flow_run WHERE flow_id = ? AND state = 'Scheduled' AND auto_scheduled", (flow_id,)
    )


def delete_flow(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Delete a flow with its runs."""
    return {"success": request.database.delete("flow", given["flow_id"])}


def set_schedule_active(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Note that a flow's schedule shall be followed. Nobody follows it yet: that is said on the console."""
    sql = (
        "SELECT f.name, coalesce(g.schedule, f.schedule) AS schedule FROM flow f"
        " JOIN flow_group g ON g.id = f.flow_group_id WHERE f.id = ?"
    )
    flow = request.database.row(sql, (given["flow_id"],))
    if flow is None or flow["schedule"] is None:
        return {"success": False}
    request.say(
        f"error: flow {flow['name']} has a schedule, and this API starts nothing by schedule yet;"
        f" start its runs yourself (prefect run --name '{flow['name']}', from a systemd timer for example)"
    )
    return {"success": request.database.update("flow", given["flow_id"], is_schedule_active=True)}


def set_schedule_inactive(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Note that a flow's schedule shall not be followed."""
    success = request.database.update("flow", given["flow_id"], is_schedule_active=False)
    if success:
        _forget_scheduled(request, given["flow_id"])
    return {"success": success}


def enable_heartbeat(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Let the runs of a flow send heartbeats."""
    return _set_settings(request, given, heartbeat_enabled=True, disable_heartbeat=False)


def disable_heartbeat(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Tell the runs of a flow to send no heartbeats."""
    return _set_settings(request, given, heartbeat_enabled=False, disable_heartbeat=True)


def enable_lazarus(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Note that lost runs of a flow may be started again."""
    return _set_settings(request, given, lazarus_enabled=True)


def disable_lazarus(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Note that lost runs of a flow shall not be started again."""
    return _set_settings(request, given, lazarus_enabled=False)


def _set_settings(request: Request, given: dict[str, Any], **settings: bool) -> dict[str, Any]:
    sql = "SELECT g.id, g.settings FROM flow f JOIN flow_group g ON g.id = f.flow_group_id WHERE f.id = ?"
    group = request.database.row(sql, (given["flow_id"],))
    if group is None:
        raise RefusedError("Invalid flow ID.")
    changed = {**json.loads(group["settings"]), **settings}
    return {"success": request.database.update("flow_group", group["id"], settings=changed)}


def set_group_labels(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Give the runs of all versions of a flow these labels; null takes them back."""
    labels = given.get("labels")
    return _set_group(request, given, labels=sorted(set(labels)) if labels is not None else None)


def set_group_run_config(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Give the runs of all versions of a flow this run config; null takes it back."""
    return _set_group(request, given, run_config=given.get("run_config"))


def set_group_description(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Describe a flow group."""
    return _set_group(request, given, description=given.get("description"))


def set_group_default_parameters(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Give the runs of all versions of a flow these parameters, unless they bring their own."""
    return _set_group(request, given, default_parameters=given["parameters"])


def _set_group(request: Request, given: dict[str, Any], **values: object) -> dict[str, Any]:
    return {"success": request.database.update("flow_group", given["flow_group_id"], **values)}


def delete_group(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Delete all versions of a flow, with their runs."""
    return {"success": request.database.delete("flow_group", given["flow_group_id"])}
