"""Moments as text: always UTC, always with microseconds, so that text order is time order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from local_agent.server.input.json_text import shortened

Clock = Callable[[], datetime]
"""Returns now, in UTC."""


def utc_now() -> datetime:
    """Return now, in UTC."""
    return datetime.now(UTC)


def to_text(moment: datetime) -> str:
    """Given a moment with a zone, return it as the API writes it: 2026-11-22T07:10:08.375647+00:00."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def normalise(text: object) -> str:
    """Given an ISO 8601 time as clients write it (no zone means UTC), return it as the API does. Raise ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"{shortened(repr(text))} is no time: expected ISO 8601 text")  # noqa: TRY004 - one error for every bad time
    try:
        moment = datetime.fromisoformat(text.strip())
        return to_text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise ValueError(
            f"{shortened(repr(text))} is no time: expected ISO 8601, such as 2026-11-22T07:10:08+00:00"
        ) from None
