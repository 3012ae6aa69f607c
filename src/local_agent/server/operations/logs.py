"""Logs of flow runs and task runs."""

from __future__ import annotations

from typing import Any

from local_agent.server.asking.request import Request
from local_agent.server.input import shapes

_MOST_LINES = 50_000  # the client sends up to 4 MB at once (prefect 1.4.1, utilities/logging.py): short lines are many


def write_run_logs(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Write lines. Those of runs that do not exist are dropped: a log must never fail the run that writes it."""
    shapes.items(given["logs"], "logs", _MOST_LINES)
    tenants = _tenants(request, {line["flow_run_id"] for line in given["logs"]})
    now = request.database.now()
    rows = [
        {
            "tenant_id": tenants[line["flow_run_id"]],
            "flow_run_id": line["flow_run_id"],
            "task_run_id": line.get("task_run_id"),
            "timestamp": line.get("timestamp") or now,
            "name": line.get("name"),
            "level": line.get("level") or "INFO",
            "message": line.get("message"),
            "info": line.get("info"),
        }
        for line in given["logs"]
        if line["flow_run_id"] in tenants
    ]
    request.database.insert_many("log", rows)
    return {"success": True}


def _tenants(request: Request, run_ids: set[str]) -> dict[str, str]:
    found = {}
    for run_id in run_ids:
        tenant_id = request.database.value("SELECT tenant_id FROM flow_run WHERE id = ?", (run_id,))
        if tenant_id is not None:
            found[run_id] = tenant_id
    return found
