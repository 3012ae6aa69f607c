"""The one D-Bus client: of the agent, of the broker, and of the operators' tools.

It imports Python's own library and jeepney, and nothing else: the broker, which is privileged, is built on it.

    frames       bytes -> messages: how large one may be, and what is thrown away unread
    connection   a socket to a bus, which never waits
    aio          drives it in an asyncio loop
    blocking     drives it for whoever waits, many calls at a time
    systemd      systemd's manager on a bus: calls, properties, jobs and their ends
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"


class BusError(Exception):
    """The bus, or who was called on it, does not answer. What was asked may be done all the same."""


class SilentBusError(BusError):
    """The connection is whole, and no answer has come in time."""


class AwayError(BusError):
    """Who was called has left the bus for a moment, as PID 1 does to execute itself anew (systemctl daemon-reexec)."""


def bus_of_user(uid: int, environ: Mapping[str, str]) -> Path:
    """Return the socket of a user's own bus, which need not exist."""
    return Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}") / "bus"


def address_of(socket: Path) -> str:
    """Given a bus's socket, return its address."""
    return f"unix:path={socket}"
