"""Sockets that systemd has opened for this server, as its socket unit says (systemd.socket(5), sd_listen_fds(3)).

They are there before the server is, and while it is not: nobody else can take the port and answer agents in its place,
and who asks while it starts again waits instead of being refused.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from systemd import daemon

from local_agent.errors import ConfigError
from local_agent.server.http import listeners

_UNIT = "systemctl cat local-agent-server.socket"


@dataclass(frozen=True)
class Passed:
    """The listening sockets that systemd passes, by what they are in place of: --host and --port, or --socket."""

    tcp: tuple[socket.socket, ...] = ()
    unix: tuple[socket.socket, ...] = ()

    def close(self) -> None:
        """Let go of them. systemd goes on to listen."""
        for each in (*self.tcp, *self.unix):
            each.close()


def passed() -> Passed:
    """Return what systemd passes to this process, which its children do not get. Raise ConfigError if it cannot serve.

    A second call returns nothing.
    """
    try:
        numbers: Sequence[int] = daemon.listen_fds(unset_environment=True)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the sockets that systemd passes cannot be taken: {error}", hint="look at LISTEN_FDS and LISTEN_PID"
        ) from error
    found = [_checked(number) for number in numbers]
    unix = tuple(each for each in found if each.family == socket.AF_UNIX)
    return Passed(tuple(each for each in found if each not in unix), unix)


def _checked(number: int) -> socket.socket:
    try:
        found = socket.socket(fileno=number)
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise _useless(f"descriptor {number} is no socket", "pass it a socket by ListenStream=") from error
    if found.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) or found.type != socket.SOCK_STREAM:
        raise _useless(f"descriptor {number} is no stream socket of TCP or unix", "use ListenStream= with an address")
    if not listens:
        raise _useless(f"descriptor {number} does not listen", "set Accept=no")
    if found.family == socket.AF_UNIX:
        _check_place(found)
    return found


def _check_place(listener: socket.socket) -> None:
    """Raise ConfigError for a socket in whose place somebody else could put another."""
    path = listener.getsockname()
    if not path or not isinstance(path, str):
        raise _useless(f"the socket {path!r} has no path, and any user could take it", "use ListenStream=/run/...")
    listeners.check_place(Path(path))


def _useless(what: str, how: str) -> ConfigError:
    return ConfigError(f"systemd passes a socket that cannot be served: {what}", hint=f"{how}; see: {_UNIT}")
