"""The journal: a stream for each flow run's output, and the agent's events with their fields."""

from __future__ import annotations

import os
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


def last_lines(identifier: str, most: int) -> tuple[str, ...]:
    """Return the last lines that this user wrote under an identifier on this boot; none where it may not read them.

    Any local user can write under any identifier: hence the uid.
    """
    try:
        with journal.Reader() as reader:
            reader.this_boot()
            reader.add_match(SYSLOG_IDENTIFIER=identifier)
            reader.add_match(_UID=str(os.getuid()))
            reader.seek_tail()
            entries = [reader.get_previous() for _ in range(most)]
    except OSError:
        return ()
    return tuple(str(entry["MESSAGE"]) for entry in reversed(entries) if entry.get("MESSAGE"))


def send(message: str, priority: int, fields: Mapping[str, str]) -> None:
    """Write one entry with fields of its own (sd_journal_send(3))."""
    journal.send(message, PRIORITY=priority, **fields)
