"""The rows as people read them, in a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from bench.model import Row, Spread

HEAD = ("figure", "theirs", "ours", "ratio", "reach", "reached")


def as_text(rows: Sequence[Row]) -> str:
    """Return a table with aligned columns."""
    lines = [HEAD, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def as_markdown(rows: Sequence[Row], columns: Sequence[str] = HEAD) -> str:
    """Return a table in Markdown, with some of its columns."""
    chosen = [HEAD.index(column) for column in columns]
    lines = [HEAD, ("---",) * len(HEAD), *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(line[number] for number in chosen)} |" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    reached = {True: "yes", False: "NO", None: ""}[row.is_reached]
    title = f"{row.title}, {row.unit}" if row.unit else row.title
    return title, _spread(row.theirs), _spread(row.ours), ratio, str(row.reach or ""), reached


def _spread(samples: Sequence[float]) -> str:
    """Return the median, and the least and the most."""
    if not samples:
        return ""
    spread = Spread.of(samples)
    if spread.count == 1:
        return _number(spread.median)
    return f"{_number(spread.median)} ({_number(spread.least)} - {_number(spread.most)})"


def _number(value: float) -> str:
    """Return three digits that count."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
