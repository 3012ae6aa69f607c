"""The queue: which flow runs an agent may take now."""

from __future__ import annotations

from typing import Any

from local_agent.server.database import to_json
from local_agent.server.request import Request
from local_agent.server.tables import WAITING_SQL

PAGE = 25

# A run fits if all its labels are the agent's; a run without labels only fits an agent without labels. The real
# Server looks at labels only after it has taken the first 75 runs, so that 75 runs nobody wants hide all others.
_FITS = (
    "CASE WHEN labels = '[]' THEN :agent_labels = '[]'"
    " ELSE NOT EXISTS (SELECT 1 FROM json_each(labels)"
    " WHERE value NOT IN (SELECT value FROM json_each(:agent_labels))) END"
)

_DUE = (
    "SELECT id, state_start_time FROM flow_run"  # noqa: S608 - the names are our own
    f" WHERE tenant_id = :tenant_id AND state IN ({WAITING_SQL}) AND state_start_time <= :before AND {_FITS}"
    " ORDER BY state_start_time LIMIT :page"
)

# A flow run whose process ended while one of its tasks waits for a retry, or whose task was resumed by hand.
_RESUMABLE = (
    # CROSS JOIN: from the few task runs that wait to their flow runs, not the other way.
    "SELECT DISTINCT flow_run.id, flow_run.state_start_time FROM task_run t"  # noqa: S608 - the names are our own
    " CROSS JOIN flow_run ON flow_run.id = t.flow_run_id"
    f" WHERE t.state IN ({WAITING_SQL}) AND t.state_start_time <= :before"
    f" AND flow_run.tenant_id = :tenant_id AND flow_run.state = 'Running' AND {_FITS}"
)

_QUEUE = (
    f"SELECT id FROM (SELECT * FROM ({_DUE}) UNION ALL {_RESUMABLE})"  # noqa: S608 - the names are our own
    " ORDER BY state_start_time ASC NULLS LAST LIMIT :page"
)


def get_runs_in_queue(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Return the ids of at most 25 flow runs that are due before a time and fit the labels, the earliest first."""
    database = request.database
    parameters = {
        "tenant_id": given["tenant_id"],
        "before": given.get("before") or database.now(),
        "agent_labels": to_json(sorted(set(given.get("labels") or []))),
        "page": PAGE,
    }
    found = [row["id"] for row in database.rows(_QUEUE, parameters)]
    if request.agent_id:
        # Asking is the only sign of life that an agent gives.
        database.write("UPDATE agent SET last_queried = ? WHERE id = ?", (database.now(), request.agent_id))
    return {"flow_run_ids": found}
