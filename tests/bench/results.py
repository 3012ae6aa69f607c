"""Figures once measured, kept as JSON under build/bench: one that is measured alone renews its part of the whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.model import Bound, Reach, Row


@dataclass(frozen=True)
class Result:
    """A figure's rows, with when and on what they were measured."""

    name: str
    rows: Sequence[Row]
    rounds: int
    conditions: str


def save(folder: Path, result: Result) -> None:
    """Keep a result in place of the figure's last one."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {"rounds": result.rounds, "conditions": result.conditions, "rows": rows_as_json(result.rows)}
    (folder / f"{result.name}.json").write_text(json.dumps(found, indent=1))


def load(folder: Path, name: str) -> Result | None:
    """Return the last result of a figure, None where it was not measured yet."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    return Result(name, rows_from_json(found["rows"]), found["rounds"], found["conditions"])


def rows_as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as JSON."""
    return [
        {
            "title": row.title,
            "unit": row.unit,
            "theirs": list(row.theirs),
            "ours": list(row.ours),
            "reach": None if row.reach is None else [row.reach.bound.name, row.reach.value],
        }
        for row in rows
    ]


def rows_from_json(found: Sequence[dict[str, Any]]) -> list[Row]:
    """The other way round."""
    return [
        Row(
            row["title"],
            row["unit"],
            row["theirs"],
            row["ours"],
            None if row["reach"] is None else Reach(Bound[row["reach"][0]], row["reach"][1]),
        )
        for row in found
    ]
