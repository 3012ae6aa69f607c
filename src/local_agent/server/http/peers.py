"""Who is at the other end of a unix socket, as the kernel tells it, and who may be (unix(7), SO_PEERCRED)."""

from __future__ import annotations

import grp
import pwd
import socket
import struct
from dataclasses import dataclass
from http import HTTPStatus

from local_agent.net.http_guard import RefusedHeadError

_CREDENTIALS = struct.Struct("iII")
_SO_PEERGROUPS = 59  # asm-generic/socket.h; Python has no name for it
_MAX_BYTES = 1024  # of Python's getsockopt: 256 groups


@dataclass(frozen=True)
class Peer:
    """A process as it was when it connected."""

    uid: int
    gids: frozenset[int]


@dataclass(frozen=True)
class Allowed:
    """The users and groups that may use the socket, without a key."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()

    def accounts(self) -> dict[str, str]:
        """Return the names of the users and groups that may, by their allowances: a number may become another's."""
        users = {f"user {uid}": _name_of(uid) for uid in sorted(self.users)}
        return users | {f"group {gid}": _group_name_of(gid) for gid in sorted(self.groups)}

    def allowance(self, peer: Peer) -> str:
        """Return by which allowance a process may use the socket. Raise RefusedHeadError if by none."""
        if peer.uid in self.users:
            return f"user {peer.uid}"
        if groups := self.groups & peer.gids:
            return f"group {min(groups)}"
        name = _name_of(peer.uid)
        raise RefusedHeadError(
            HTTPStatus.FORBIDDEN,
            f"The user {name} may not use this socket. If it may, start the server with --allow-user {name}",
        )


def peer_of(connection: socket.socket) -> Peer:
    """Given a connection on a unix socket, return who has connected."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, gid = _CREDENTIALS.unpack(data)
    return Peer(uid, frozenset((gid, *_more_groups(connection))))


def _more_groups(connection: socket.socket) -> tuple[int, ...]:
    """Return the groups beside the first. Who is in more than can be asked for has only that one."""
    try:
        data = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_BYTES)
    except OSError:
        return ()
    return struct.unpack(f"{len(data) // 4}I", data)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name_of(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
