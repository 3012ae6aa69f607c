"""Registering flows, and flow groups: what all versions of one flow have in common."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from contextlib import suppress
from typing import Any

from local_agent.server.asking.request import Request
from local_agent.server.data import labels
from local_agent.server.data.database import new_id
from local_agent.server.data.reads import Row
from local_agent.server.input import json_text, shapes
from local_agent.server.input.json_text import shortened
from local_agent.server.input.refusals import RefusedError
from local_agent.server.operations import serialized, states
from local_agent.server.operations.serialized import Edge, Flow, Task

# What a compressed flow may unpack to: far beyond any real flow, whose tasks come apart from it.
_MAX_BYTES = 8_000_000


def create_flow_from_compressed_string(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Register a flow that comes as base64 of gzip of JSON, as Prefect sends it."""
    try:
        whole = json_text.parse(_unpacked(base64.b64decode(given["serialized_flow"])))
    except json_text.RefusedJsonError as error:
        raise RefusedError(f"Unable to decompress serialized flow: {error}") from None
    except (ValueError, zlib.error, binascii.Error, EOFError, OSError):
        raise RefusedError("Unable to decompress serialized flow") from None
    return create_flow(request, {**given, "serialized_flow": whole})


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    unpacked = unpacker.decompress(data, _MAX_BYTES)
    if unpacker.unconsumed_tail:
        raise RefusedError(f"The serialized flow is larger than {_MAX_BYTES} bytes")
    return unpacked


def create_flow(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Register a flow, or a new version of one; the versions before it are archived."""
    flow = serialized.flow(given["serialized_flow"])
    project = request.database.row("SELECT id, tenant_id FROM project WHERE id = ?", (given["project_id"],))
    if project is None:
        raise RefusedError("Invalid project.")
    version_group_id = given.get("version_group_id") or _version_group(request, project, flow) or new_id()
    group_id, existing = _group(request, project["tenant_id"], version_group_id, given.get("idempotency_key"))
    if existing:
        return {"id": existing}
    flow_id = _insert_flow(request, project, group_id, version_group_id, flow, given.get("description"))
    _archive_others(request, version_group_id, flow_id)
    # Absent means yes, as on the real Server; so does null.
    if given.get("set_schedule_active") is not False:
        # What cannot be scheduled is registered all the same.
        with suppress(RefusedError):
            set_schedule_active(request, {"flow_id": flow_id})
    return {"id": flow_id}


def _version_group(request: Request, project: Row, flow: Flow) -> str | None:
    found = request.database.value(
        "SELECT version_group_id FROM flow WHERE project_id = ? AND name = ? ORDER BY created DESC, rowid DESC",
        (project["id"], flow.name),
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


def _insert_flow(
    request: Request, project: Row, group_id: str, version_group_id: str, flow: Flow, description: str | None
) -> str:
    newest = "SELECT coalesce(max(version), 0) FROM flow WHERE tenant_id = ? AND version_group_id = ?"
    flow_id = request.database.insert(
        "flow",
        tenant_id=project["tenant_id"],
        project_id=project["id"],
        flow_group_id=group_id,
        name=flow.name,
        description=description,
        version=request.database.value(newest, (project["tenant_id"], version_group_id)) + 1,
        version_group_id=version_group_id,
        core_version=flow.core_version,
        serialized_flow=flow.whole,
        **flow.columns,
    )
    _insert_tasks(request, flow_id, project["tenant_id"], flow.tasks)
    _insert_edges(request, flow_id, project["tenant_id"], flow.edges)
    return flow_id


def _flow(request: Request, flow_id: str) -> Row:
    flow = request.database.row("SELECT id, tenant_id, serialized_flow FROM flow WHERE id = ?", (flow_id,))
    if flow is None:
        raise RefusedError("Invalid flow ID")
    return flow


def register_tasks(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Add tasks to a flow; those it has already stay as they are. Prefect sends a large flow's tasks in batches."""
    tasks = serialized.tasks(given["serialized_tasks"], "serialized_tasks")
    flow = _flow(request, given["flow_id"])
    whole = json.loads(flow["serialized_flow"])
    known = whole.get("tasks") or []
    slugs = {str(task.get("slug")) for task in known if isinstance(task, dict)}
    whole["tasks"] = known + [task for task in given["serialized_tasks"] if task.get("slug") not in slugs]
    request.database.update("flow", flow["id"], serialized_flow=whole)
    _insert_tasks(request, flow["id"], flow["tenant_id"], tasks)
    return {"success": True}


def register_edges(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Add edges to a flow, between tasks that it has."""
    edges = serialized.edges(given["serialized_edges"], "serialized_edges")
    flow = _flow(request, given["flow_id"])
    _insert_edges(request, flow["id"], flow["tenant_id"], edges)
    return {"success": True}


def _insert_tasks(request: Request, flow_id: str, tenant_id: str, tasks: list[Task]) -> None:
    rows = [{"tenant_id": tenant_id, "flow_id": flow_id, **task.columns} for task in tasks]
    request.database.insert_many("task", rows, or_ignore=True)


def _insert_edges(request: Request, flow_id: str, tenant_id: str, edges: list[Edge]) -> None:
    if not edges:
        return
    tasks = request.database.rows("SELECT slug, id FROM task WHERE flow_id = ?", (flow_id,))
    ids = {task["slug"]: task["id"] for task in tasks}
    try:
        rows = [
            {
                "tenant_id": tenant_id,
                "flow_id": flow_id,
                "upstream_task_id": ids[edge.upstream],
                "downstream_task_id": ids[edge.downstream],
                "key": edge.key,
                "mapped": edge.mapped,
            }
            for edge in edges
        ]
    except KeyError as error:
        raise RefusedError(
            "Edges could not be registered - some edges reference tasks that do not exist within this flow:"
            f" {error.args[0]}"
        ) from None
    request.database.insert_many("edge", rows, or_ignore=True)


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
        _, following = states.cancel(request, run["id"], f"Flow {flow_id} was archived.")
        # At once, and all or nothing: a run that is left would be started.
        for _ in following:
            pass
    return {"success": True}


def _forget_scheduled(request: Request, flow_id: str) -> None:
    request.database.write(
        "DELETE FROM flow_run WHERE flow_id = ? AND state = 'Scheduled' AND auto_scheduled", (flow_id,)
    )


def delete_flow(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Delete a flow with its runs."""
    return {"success": request.database.delete("flow", given["flow_id"])}


def set_schedule_active(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Note that a flow's schedule shall be followed. Nobody follows it yet: that is said on the console.

    Raise RefusedError if it has parameters that must be given, and no clock or group gives them.
    """
    sql = (
        "SELECT f.name, f.schedule, f.parameters, g.schedule AS group_schedule, g.default_parameters FROM flow f"
        " JOIN flow_group g ON g.id = f.flow_group_id WHERE f.id = ?"
    )
    flow = request.database.row(sql, (given["flow_id"],))
    if flow is None:
        return {"success": False}
    _check_parameters(flow)
    if flow["schedule"] is None and flow["group_schedule"] is None:
        return {"success": False}
    request.say(
        f"error: flow {_printable(flow['name'])} has a schedule, and this API starts nothing by schedule yet;"
        " start its runs yourself (prefect run --name NAME, from a systemd timer for example)"
    )
    return {"success": request.database.update("flow", given["flow_id"], is_schedule_active=True)}


def _printable(name: str) -> str:
    """Return a name that comes from a client as the console shows it: it must not steer a terminal."""
    return shortened("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in name))


def _check_parameters(flow: Row) -> None:
    if flow["schedule"] is None:
        return
    declared = serialized.parameters(json.loads(flow["parameters"]), "parameters")
    given = json.loads(flow["default_parameters"]) or {}
    needed = {each.name for each in declared if each.is_required and each.name not in given}
    clocks = serialized.schedule(json.loads(flow["schedule"]), "schedule")
    if needed and not all(needed <= set(clock.get("parameter_defaults") or {}) for clock in clocks):
        raise RefusedError("Can not schedule a flow that has required parameters.")


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
    own = given.get("labels")
    return _set_group(request, given, labels=None if own is None else labels.sorted_once(shapes.texts(own, "labels")))


def set_group_run_config(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Give the runs of all versions of a flow this run config; null takes it back."""
    return _set_group(request, given, run_config=serialized.run_config(given.get("run_config"), "run_config"))


def set_group_description(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Describe a flow group."""
    return _set_group(request, given, description=given.get("description"))


def set_group_default_parameters(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Give the runs of all versions of a flow these parameters, unless they bring their own."""
    return _set_group(request, given, default_parameters=shapes.mapping(given["parameters"], "parameters"))


def _set_group(request: Request, given: dict[str, Any], **values: object) -> dict[str, Any]:
    return {"success": request.database.update("flow_group", given["flow_group_id"], **values)}


def delete_group(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Delete all versions of a flow, with their runs."""
    return {"success": request.database.delete("flow_group", given["flow_group_id"])}
