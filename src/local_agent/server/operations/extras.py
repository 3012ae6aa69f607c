"""What few flows use: artifacts, secrets, key-value pairs."""

from __future__ import annotations

import json
from typing import Any

from local_agent.server.asking.request import Request
from local_agent.server.input.json_text import to_json
from local_agent.server.input.refusals import RefusedError


def create_task_run_artifact(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Attach something to a task run."""
    sql = "SELECT tenant_id FROM task_run WHERE id = ?"
    tenant_id = request.database.value(sql, (given["task_run_id"],))
    if tenant_id is None:
        raise RefusedError(f"Task run {given['task_run_id']} not found")
    if given.get("tenant_id") not in (None, tenant_id):
        raise RefusedError("Invalid tenant ID.")
    return {
        "id": request.database.insert(
            "task_run_artifact",
            tenant_id=tenant_id,
            task_run_id=given["task_run_id"],
            kind=given["kind"],
            data=given["data"],
        )
    }


def update_task_run_artifact(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Change what is attached."""
    changed = request.database.update("task_run_artifact", given["task_run_artifact_id"], data=given["data"])
    return {"success": changed}


def delete_task_run_artifact(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Take it away."""
    return {"success": request.database.delete("task_run_artifact", given["task_run_artifact_id"])}


def set_secret(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Keep a secret. It lies in the data file as it is: the file is readable by its owner only."""
    request.database.write(
        "INSERT INTO secret (tenant_id, name, value) VALUES (?, ?, ?)"
        " ON CONFLICT (tenant_id, name) DO UPDATE SET value = excluded.value",
        (request.tenant_id(), given["name"], to_json(given["value"])),
    )
    return {"success": True}


def delete_secret(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Forget a secret."""
    sql = "DELETE FROM secret WHERE tenant_id = ? AND name = ?"
    return {"success": request.database.write(sql, (request.tenant_id(), given["name"])) > 0}


def secret_value(request: Request, given: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
    """Return a secret. Raise RefusedError if there is none of this name."""
    sql = "SELECT value FROM secret WHERE tenant_id = ? AND name = ?"
    found = request.reads.value(sql, (request.tenant_id(), given["name"]))
    if found is None:
        raise RefusedError(f"The secret {given['name']} does not exist")
    return json.loads(found)


def set_key_value(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Set the value of a key and return the pair's id."""
    database = request.database
    sql = "SELECT id FROM key_value WHERE tenant_id = ? AND key = ?"
    found = database.value(sql, (request.tenant_id(), given["key"]))
    if found is None:
        return {
            "id": database.insert("key_value", tenant_id=request.tenant_id(), key=given["key"], value=given["value"])
        }
    database.update("key_value", found, value=given["value"])
    return {"id": found}


def delete_key_value(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Delete a pair."""
    return {"success": request.database.delete("key_value", given["key_value_id"])}
