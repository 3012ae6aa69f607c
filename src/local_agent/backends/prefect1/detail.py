"""What only Prefect 1 knows of a flow run: `FlowRun.detail`, and what of it `Record.ticket` keeps on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_agent.model import FlowRun, Record


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How a flow run asks to be run. `kind` is the API's own name for it, "" where none was set."""

    kind: str = ""
    env: Mapping[str, str | None] = field(default_factory=dict)
    working_dir: str | None = None


@dataclass(frozen=True, slots=True)
class WaitingTaskRun:
    """A task run whose retry is due although its flow run is Running: a long retry, left by an earlier process."""

    id: str
    version: int
    state: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Detail:
    """The rest of a flow run; `waiting_task_runs` is empty but for a long retry, whose flow run is Running already."""

    version: int
    flow_id: str
    state: Mapping[str, object]
    run_config: RunConfig
    storage: str
    waiting_task_runs: tuple[WaitingTaskRun, ...] = ()

    @property
    def is_long_retry(self) -> bool:
        """Tell whether the flow run is Running and only task runs of it wait."""
        return bool(self.waiting_task_runs)


def detail_of(run: FlowRun) -> Detail:
    """Return what this backend has put into a flow run."""
    if not isinstance(run.detail, Detail):
        raise TypeError(f"flow run {run.id} is of another backend")
    return run.detail


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a claim rests on: the version of the flow run's state, or the task runs of a long retry."""

    version: int = 0
    task_runs: tuple[str, ...] = ()

    def as_json(self) -> Mapping[str, object]:
        """Return it for the record, without what is usual."""
        return {
            **({"version": self.version} if self.version else {}),
            **({"task_runs": list(self.task_runs)} if self.task_runs else {}),
        }


def ticket_for(run: FlowRun) -> Ticket:
    """Return the ticket of a flow run that is about to be claimed."""
    detail = detail_of(run)
    return Ticket(detail.version, tuple(task.id for task in detail.waiting_task_runs))


def ticket_of(record: Record) -> Ticket:
    """Return the ticket in a record. What is not as this backend wrote it is as if it were not there."""
    version, task_runs = record.ticket.get("version"), record.ticket.get("task_runs")
    return Ticket(
        version if isinstance(version, int) else 0,
        tuple(map(str, task_runs)) if isinstance(task_runs, (list, tuple)) else (),
    )
