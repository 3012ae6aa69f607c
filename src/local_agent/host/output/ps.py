"""`local-agent ps`: flow runs as a table, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_agent.host.table import (
    Cell,
    Colour,
    Column,
    Terminal,
    compact_bytes,
    compact_cpu,
    compact_seconds,
    render,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from local_agent.host.reading.runs import Overview, Run

FORMAT = 1

_COLUMNS = (
    Column("ID"),
    Column("FLOW", enough=12, least=8),
    Column("NAME", enough=12, least=8),
    Column("STATE"),
    Column("API", goes=6),
    Column("INSTANCE", goes=5),
    Column("SINCE", right=True),
    Column("CPU", right=True),
    Column("MEMORY", right=True),
    Column("PEAK", right=True, goes=7),
    Column("LIMIT", right=True, goes=8),
    Column("TASKS", right=True, goes=9),
)
_HOW = Column("HOW IT ENDED", enough=24, least=8)

_COLOURS = {
    "running": Colour.GOOD,
    "frozen": Colour.DOUBTFUL,
    "stopping": Colour.DOUBTFUL,
    "failed": Colour.BAD,
    "ended": Colour.FAINT,
}


def table(runs: Sequence[Run], now: datetime, terminal: Terminal, *, with_ended: bool) -> list[str]:
    """Return the lines that show flow runs to a person."""
    columns = (*_COLUMNS, _HOW) if with_ended else _COLUMNS
    return render(columns, [_row(run, now)[: len(columns)] for run in runs], terminal)


def as_json(overview: Overview, now: datetime) -> dict[str, Any]:
    """Return what scripts get; docs/commands/json.md says what each key means."""
    return {
        "format": FORMAT,
        "at": now.isoformat(timespec="milliseconds"),
        "runs": [run_as_json(run) for run in overview.runs],
        "problems": list(overview.problems),
    }


def _row(run: Run, now: datetime) -> list[Cell]:
    age = (now - run.since).total_seconds() if run.since else None
    figures = run.figures
    state = f"failed ({run.result})" if run.state == "failed" and run.result else run.state
    plain = [run.id[:8], run.flow_name or "-", run.name or "-"]
    return [
        *(Cell(text) for text in plain),
        Cell(state, _COLOURS.get(run.state, Colour.PLAIN)),
        Cell(run.api_state or "-"),
        Cell(run.instance or "-"),
        Cell(compact_seconds(age)),
        Cell(compact_cpu(figures.cpu_seconds)),
        Cell(compact_bytes(figures.memory_bytes)),
        Cell(compact_bytes(figures.memory_peak_bytes)),
        Cell(compact_bytes(figures.memory_limit_bytes)),
        Cell("-" if figures.tasks is None else str(figures.tasks)),
        Cell(run.how),
    ]


def run_as_json(run: Run) -> dict[str, Any]:
    """Return a flow run as scripts get it."""
    figures = run.figures
    return {
        "id": run.id,
        "name": run.name,
        "flow": run.flow_name,
        "instance": run.instance,
        "state": run.state,
        "api_state": run.api_state or None,
        "manager": run.manager or None,
        "unit": run.unit or None,
        "result": run.result or None,
        "since": run.since.isoformat(timespec="milliseconds") if run.since else None,
        "cpu_seconds": figures.cpu_seconds,
        "memory_bytes": figures.memory_bytes,
        "memory_peak_bytes": figures.memory_peak_bytes,
        "memory_limit_bytes": figures.memory_limit_bytes,
        "tasks": figures.tasks,
        "read_bytes": figures.read_bytes,
        "written_bytes": figures.written_bytes,
        "how": run.how or None,
        "cause": run.cause or None,
        "exit_code": run.exit_code,
        "outcome": run.outcome or None,
    }
