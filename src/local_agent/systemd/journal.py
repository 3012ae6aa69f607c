"""The journal: a stream for each flow run's output, and the agent's events with their fields."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from systemd import journal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO

_SOCKET = Path("/run/systemd/journal/stdout")
_ENTRIES = "/run/systemd/journal/socket"


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


def knock() -> None:
    """Raise OSError where nobody would take a stream now. Does not block."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as stream:
        stream.connect(str(_SOCKET))


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


def entry(message: str, priority: int, fields: Mapping[str, str]) -> bytes:
    """Return one entry with fields of its own, as journald takes it in a datagram.

    https://systemd.io/JOURNAL_NATIVE_PROTOCOL: a value with a line feed has its length before it.
    """
    return b"".join(
        _field(name, value) for name, value in {"MESSAGE": message, "PRIORITY": str(priority), **fields}.items()
    )


class EntrySink:
    """Takes entries to journald.

    Not by way of sd_journal_send(3): where journald does not read, that blocks the whole interpreter and not only
    the thread that calls it.
    """

    name = "journald"
    is_stream = False

    def __init__(self, path: str = _ENTRIES) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def write(self, message: bytes) -> int:
        """Send one entry, and wait while journald's queue is full. Raise OSError where there is no journald."""
        return self._socket.sendto(message, self._path)


def _field(name: str, value: str) -> bytes:
    data = value.encode(errors="backslashreplace")
    if b"\n" in data:
        return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
