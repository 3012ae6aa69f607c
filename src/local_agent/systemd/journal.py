"""The journal: a stream for each flow run's output, and the agent's events with their fields."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from systemd import journal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO

_SOCKET = Path("/run/systemd/journal/stdout")


def is_there() -> bool:
    """Tell whether this machine has a journal that takes streams."""
    return _SOCKET.exists()


def open_stream(identifier: str) -> IO[str]:
    """Open a stream into the journal under a syslog identifier. The caller closes its own end.

    The flow run holds the other copy itself: nothing relays, so nothing is lost when the agent restarts.
    Raise OSError where the journal does not take it.
    """
    stream: IO[str] = journal.stream(identifier, priority=journal.LOG_INFO, level_prefix=False)
    return stream


def send(message: str, priority: int, fields: Mapping[str, str]) -> None:
    """Write one entry with fields of its own (sd_journal_send(3))."""
    journal.send(message, PRIORITY=priority, **fields)
