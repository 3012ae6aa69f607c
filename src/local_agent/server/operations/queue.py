"""The queue: which flow runs an agent may take now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from local_agent.server.asking.request import Request
from local_agent.server.data import labels
from local_agent.server.data.reads import Reads, Row
from local_agent.server.data.tables import RUNNING_SQL, WAITING_SQL

PAGE = 25

# A run fits if all its labels are the agent's; a run without labels only fits an agent without labels. The real
# Server looks at labels only after it has taken the first 75 runs, so that 75 runs nobody wants hide all others.
# Here an index has the runs of each set of labels together: those of other sets are not even looked at.
_DUE = (
    "SELECT id, state_start_time FROM flow_run"  # noqa: S608 - the names are our own
    f" WHERE tenant_id = :tenant_id AND labels = :labels AND {WAITING_SQL} AND state_start_time <= :before"
    " ORDER BY state_start_time LIMIT :page"
)

# A flow run whose process ended while one of its tasks waits for a retry, or whose task was resumed by hand.
_RESUMABLE = (
    "SELECT id, state_start_time FROM flow_run"  # noqa: S608 - the names are our own
    f" WHERE tenant_id = :tenant_id AND labels = :labels AND {RUNNING_SQL}"
    f" AND EXISTS (SELECT 1 FROM task_run t WHERE t.flow_run_id = flow_run.id AND t.{WAITING_SQL}"
    " AND t.state_start_time <= :before) LIMIT :page"
)


@dataclass(frozen=True)
class _Looks:
    """Looks for label sets among the runs in some states."""

    reads: Reads
    tenant_id: str
    states: str

    def first_after(self, text: str) -> str | None:
        sql = (
            f"SELECT labels FROM flow_run WHERE tenant_id = ? AND {self.states} AND labels > ?"  # noqa: S608 - as above
            " ORDER BY labels LIMIT 1"
        )
        found = self.reads.value(sql, (self.tenant_id, text))
        return None if found is None else str(found)


def get_runs_in_queue(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Return the ids of at most 25 flow runs that are due before a time and fit the labels, the earliest first."""
    database = request.database
    own = labels.sorted_once(given.get("labels") or [])
    before = given.get("before") or database.now()
    found = [
        *_runs(database, _DUE, WAITING_SQL, given["tenant_id"], own, before),
        # Running flow runs have no time of their own: they come last.
        *_runs(database, _RESUMABLE, RUNNING_SQL, given["tenant_id"], own, before),
    ]
    if request.agent_id:
        # Asking is the only sign of life that an agent gives.
        database.write("UPDATE agent SET last_queried = ? WHERE id = ?", (database.now(), request.agent_id))
    return {"flow_run_ids": [row["id"] for row in found[:PAGE]]}


def _runs(reads: Reads, sql: str, states: str, tenant_id: str, own: list[str], before: str) -> list[Row]:
    """Return a page of runs, the earliest first."""
    found: list[Row] = []
    for fitting in labels.fitting_sets(own, _Looks(reads, tenant_id, states)):
        given = {"tenant_id": tenant_id, "labels": fitting, "before": before, "page": PAGE}
        found += reads.rows(sql, given)
        if len(found) > PAGE:
            found.sort(key=lambda row: row["state_start_time"] or "")
            del found[PAGE:]
            # those of other sets have to be earlier
            before = found[-1]["state_start_time"] or before
    found.sort(key=lambda row: row["state_start_time"] or "")
    return found
