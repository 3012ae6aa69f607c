"""Sockets that listen where a setting says: on IPv4, IPv6 or both."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from local_agent.errors import ConfigError

if TYPE_CHECKING:
    from local_agent.settings import Address

_BACKLOG = 128
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_HINTS = {
    errno.EADDRINUSE: "choose another --agent-address; `ss -ltnp` shows who",
    errno.EACCES: "choose a port from 1024 on, or AmbientCapabilities=CAP_NET_BIND_SERVICE in the agent's unit",
    errno.EADDRNOTAVAIL: "`ip -brief address` shows this machine's addresses",
    errno.EAFNOSUPPORT: "this machine has no IPv6: give an IPv4 address, or :PORT for every interface",
    errno.EINVAL: "a link-local address needs its interface: `[fe80::1%eth0]:8080`",
}
_USUAL_HINT = "choose another --agent-address"


def listeners(address: Address) -> list[socket.socket]:
    """Return sockets that listen at every address of a host; without a host, at all of this machine's, of both kinds.

    A name may have an address of either kind, as localhost has, and a client takes any. Raise ConfigError where none
    can be listened at, or one is taken.
    """
    try:
        return _every_interface(address.port) if address.host in ("", "::") else _named(address)
    except OSError as error:
        reason = error.strerror or error
        hint = f"getent ahosts {address.host}" if isinstance(error, socket.gaierror) else _hint(error)
        raise ConfigError(f"cannot listen on {address}: {reason}", hint=hint) from error


def _hint(error: OSError) -> str:
    return _HINTS.get(error.errno or 0, _USUAL_HINT)


def _every_interface(port: int) -> list[socket.socket]:
    """One socket takes both kinds; where the kernel has no IPv6, there is IPv4 only."""
    try:
        return [_listener(socket.AF_INET6, ("::", port), both=True)]
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    return [_listener(socket.AF_INET, ("0.0.0.0", port))]  # noqa: S104 - what was asked for


def _named(address: Address) -> list[socket.socket]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places = list(dict.fromkeys((family, place) for family, _, _, _, place in found))
    listening: list[socket.socket] = []
    missing: OSError | None = None
    with ExitStack() as undo:
        for family, place in places:
            try:
                listening.append(undo.enter_context(_listener(family, place)))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
        undo.pop_all()
    if not listening and missing is not None:
        raise missing
    return listening


def _listener(family: socket.AddressFamily | int, place: object, *, both: bool = False) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart gets its port back at once
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not both))
        listener.bind(place)  # type: ignore[arg-type] # as getaddrinfo gives it
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
