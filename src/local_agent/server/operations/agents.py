"""Agents and their configurations."""

from __future__ import annotations

from typing import Any

from local_agent.server.asking.request import Request
from local_agent.server.data.labels import sorted_once
from local_agent.server.input.json_text import to_json


def register_agent(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Register an agent. One with the same name, type, version of Prefect and labels is the same agent."""
    database = request.database
    tenant_id = given.get("tenant_id") or request.tenant_id()
    labels = sorted_once(given.get("labels") or [])
    same = database.value(
        "SELECT id FROM agent WHERE tenant_id = ? AND name IS ? AND type = ? AND core_version IS ? AND labels = ?",
        (tenant_id, given.get("name"), given["type"], request.core_version, to_json(labels)),
    )
    if same:
        return {"id": same}
    return {
        "id": database.insert(
            "agent",
            tenant_id=tenant_id,
            agent_config_id=given.get("agent_config_id"),
            name=given.get("name"),
            type=given["type"],
            core_version=request.core_version,
            labels=labels,
        )
    }


def delete_agent(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Forget an agent."""
    return {"success": request.database.delete("agent", given["agent_id"])}


def create_agent_config(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Create a configuration that an agent can name when it registers."""
    settings = given.get("settings") or {}
    return {
        "id": request.database.insert(
            "agent_config", tenant_id=given["tenant_id"], name=given.get("name"), settings=settings
        )
    }


def update_agent_config(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Change what is given of a configuration."""
    changed = {name: given[name] for name in ("name", "settings") if given.get(name) is not None}
    return {"success": request.database.update("agent_config", given["agent_config_id"], **changed)}


def delete_agent_config(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Delete a configuration."""
    return {"success": request.database.delete("agent_config", given["agent_config_id"])}
