"""Spans of time as the real Server has them: PostgreSQL writes 660 seconds as 00:11:00."""

from __future__ import annotations

import re
import sqlite3

from local_agent.server.input.json_text import shortened
from local_agent.server.input.refusals import RefusedError

# What pydantic takes for a timedelta, which is what the real Server reads a retry delay with.
_CLOCK = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<days>\d{1,9})(?: days?,?)? )?"
    r"(?:(?:(?P<hours>\d{1,9}):)?(?P<minutes>\d{1,9}):)?(?P<seconds>\d{1,9}(?:\.\d{1,9})?)"
)
_ISO = re.compile(
    r"(?P<sign>[+-]?)P(?:(?P<days>\d{1,9}(?:\.\d{1,9})?)D)?"
    r"(?:T(?:(?P<hours>\d{1,9}(?:\.\d{1,9})?)H)?(?:(?P<minutes>\d{1,9}(?:\.\d{1,9})?)M)?"
    r"(?:(?P<seconds>\d{1,9}(?:\.\d{1,9})?)S)?)?"
)

# Python's timedelta, and so the real Server, takes no more days than that.
_MAX_SECONDS = 999_999_999 * 86_400


def from_json(value: object, path: str) -> str | None:
    """Given a span as seconds or text (90, "00:01:30", "PT90S"), or null, return it as PostgreSQL writes it.

    Raise RefusedError, with the path, for what is none.
    """
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is None or abs(seconds) > _MAX_SECONDS:
        raise RefusedError(f"{path}: invalid duration format: {shortened(repr(value))}")
    return to_text(seconds)


def _seconds(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) <= _MAX_SECONDS else None
    if not isinstance(value, str):
        return None
    found = _CLOCK.fullmatch(value) or _ISO.fullmatch(value)
    if found is None:
        return None
    days, hours, minutes, seconds = (float(found[part] or 0) for part in ("days", "hours", "minutes", "seconds"))
    return (-1 if found["sign"] == "-" else 1) * (((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def to_text(seconds: float) -> str:
    """Given seconds, return them as PostgreSQL writes an interval of seconds: -00:00:01.5, 26:00:00."""
    microseconds = round(abs(seconds) * 1_000_000)
    whole, fraction = divmod(microseconds, 1_000_000)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if seconds < 0 and microseconds else ""
    return f"{sign}{hours:02}:{minutes:02}:{rest:02}" + (f".{fraction:06}".rstrip("0") if fraction else "")


def normalise_all(connection: sqlite3.Connection) -> None:
    """Write the retry delays of tasks, which an earlier version kept as seconds, as they are now."""
    old = "SELECT rowid, retry_delay FROM task WHERE retry_delay IS NOT NULL AND instr(retry_delay, ':') = 0"
    changed = [(to_text(_seconds(text) or 0.0), rowid) for rowid, text in connection.execute(old).fetchall()]
    connection.executemany("UPDATE task SET retry_delay = ? WHERE rowid = ?", changed)
