"""Logs of flow runs and task runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from local_agent.server.asking.request import Request, Steps
from local_agent.server.input import shapes

_MAX_LINES = 50_000  # the client sends up to 4 MB at once (prefect 1.4.1, utilities/logging.py): short lines are many


# About a millisecond of work; then others have their turn.
_LINES_AT_ONCE = 50


def write_run_logs(request: Request, given: dict[str, Any]) -> object:
    """Write lines. Those of runs that do not exist are dropped: a log must never fail the run that writes it."""
    lines = shapes.items(given["logs"], "logs", _MAX_LINES)
    if len(lines) <= _LINES_AT_ONCE:
        _write(request, lines)
        return {"success": True}
    return Steps(_write_all(request, lines), lambda: {"success": True})


def _write_all(request: Request, lines: list[dict[str, Any]]) -> Iterator[None]:
    for first in range(0, len(lines), _LINES_AT_ONCE):
        _write(request, lines[first : first + _LINES_AT_ONCE])
        yield


def _write(request: Request, lines: list[dict[str, Any]]) -> None:
    tenants = _tenants(request, {line["flow_run_id"] for line in lines})
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
        for line in lines
        if line["flow_run_id"] in tenants
    ]
    request.database.insert_many("log", rows)


def _tenants(request: Request, run_ids: set[str]) -> dict[str, str]:
    found = {}
    for run_id in run_ids:
        tenant_id = request.database.value("SELECT tenant_id FROM flow_run WHERE id = ?", (run_id,))
        if tenant_id is not None:
            found[run_id] = tenant_id
    return found
