"""Tenants and projects."""

from __future__ import annotations

import re
from typing import Any

from local_agent.server.asking.request import Request
from local_agent.server.input.refusals import RefusedError

# Prefect takes exactly this message to mean that the project is there already, and then uses it.
_NOT_UNIQUE = "Uniqueness violation."


def create_tenant(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Create a tenant. Its slug must be lower case, and no other's."""
    slug = given["slug"]
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug):
        raise RefusedError('Slug must be "slugified" (lowercase; no spaces)')
    if request.database.value("SELECT 1 FROM tenant WHERE slug = ?", (slug,)):
        raise RefusedError(_NOT_UNIQUE, detail=f"a tenant with the slug {slug} exists")
    return {"id": request.database.insert("tenant", name=given["name"], slug=slug, settings={}, info={})}


def create_project(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Create a project. Its name must be unique within the tenant."""
    tenant_id, name = given["tenant_id"], given["name"]
    if not request.database.value("SELECT 1 FROM tenant WHERE id = ?", (tenant_id,)):
        raise RefusedError("Invalid tenant.")
    _check_name(request, tenant_id, name)
    description = given.get("description")
    return {"id": request.database.insert("project", tenant_id=tenant_id, name=name, description=description)}


def _check_name(request: Request, tenant_id: str, name: str) -> None:
    if not name:
        raise RefusedError("A project needs a name")
    if request.database.value("SELECT 1 FROM project WHERE tenant_id = ? AND name = ?", (tenant_id, name)):
        raise RefusedError(_NOT_UNIQUE, detail=f"a project with the name {name} exists")


def delete_project(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Delete a project with its flows and their runs."""
    return {"success": request.database.delete("project", given["project_id"])}


def set_project_name(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Rename a project."""
    sql = "SELECT tenant_id, name FROM project WHERE id = ?"
    project = request.database.row(sql, (given["project_id"],))
    if project is None:
        raise RefusedError("Invalid project ID.")
    if project["name"] != given["name"]:
        _check_name(request, project["tenant_id"], given["name"])
    request.database.update("project", given["project_id"], name=given["name"])
    return {"id": given["project_id"]}


def set_project_description(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Describe a project."""
    if not request.database.update("project", given["project_id"], description=given.get("description")):
        raise RefusedError("Invalid project ID.")
    return {"id": given["project_id"]}
