"""Whom the broker answers, and which processes they may have enclosed.

An agent is known by its cgroup alone: systemd puts it into local-agent@<instance>.service, and no process without
privileges can get there. A check of the user would not do: a flow run has the same user as its agent, and would ask
the broker out of its own limits.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from local_agent.broker.protocol import Code, RefusedError
from local_agent.linux import proc
from local_agent.units.names import instance_in

if TYPE_CHECKING:
    from collections.abc import Iterator

_CREDENTIALS = struct.Struct("iII")  # struct ucred (unix(7)): pid, uid, gid


class Process:
    """A process, held by a pidfd so that its pid cannot become another's unnoticed."""

    def __init__(self, pid: int) -> None:
        """Take hold of a process. Raise OSError where there is none."""
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)

    def close(self) -> None:
        """Let go."""
        os.close(self.pidfd)

    def has_ended(self) -> bool:
        """Tell whether it has ended; what was read of its pid before a "no" was its own."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def cgroup(self) -> str:
        """Return its cgroup, "" once it has ended."""
        path = proc.cgroup_in(self._read("cgroup"))
        return "" if self.has_ended() else path

    def uids(self) -> frozenset[int]:
        """Return its real, effective, saved and file system user, none once it has ended."""
        uids = proc.uids_in(self._read("status"))
        return frozenset() if self.has_ended() else uids

    def _read(self, name: str) -> bytes:
        """What cannot be read tells of nobody, and nobody may do anything."""
        try:
            return proc.read(f"/proc/{self.pid}/{name}")
        except OSError:
            return b""


@dataclass
class Caller:
    """The process at the other end of a connection."""

    process: Process
    uid: int
    cgroup: str
    instance: str
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))
    has_greeted: bool = False
    service_path: str = ""  # its service's object on the bus, once systemd has said that it is its main process

    def check_sender(self, sender_pid: int) -> None:
        """Raise RefusedError unless a packet's sender, as the kernel tells it, is this very process, where it was.

        Processes that a connection was handed on to have pids of their own.
        """
        if sender_pid != self.process.pid or self.process.cgroup() != self.cgroup:
            raise RefusedError(Code.NOT_ALLOWED, "this connection belongs to another process")


def identify(connection: socket.socket) -> Caller:
    """Given an accepted connection, return who has opened it. Raise RefusedError where that is no agent."""
    size = _CREDENTIALS.size
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    try:
        process = Process(pid)
    except (OSError, ValueError) as error:
        raise RefusedError(Code.NOT_ALLOWED, f"process {pid} is gone") from error
    cgroup = process.cgroup()
    instance = instance_in(cgroup)
    if instance is None:
        process.close()
        raise RefusedError(
            Code.NOT_ALLOWED, f"process {pid} of user {uid} is in no local-agent@.service, but in {cgroup or 'nothing'}"
        )
    return Caller(process, uid, cgroup, instance)


@contextlib.contextmanager
def held_for(caller: Caller, pid: int) -> Iterator[Process]:
    """Hold a process that the caller may have enclosed, for the context's length. Raise RefusedError for others."""
    if pid == caller.process.pid:
        raise RefusedError(Code.NOT_YOURS, "an agent is no flow run")
    try:
        process = Process(pid)
    except OSError as error:
        raise RefusedError(Code.NOT_YOURS, f"there is no process {pid}") from error
    try:
        if process.cgroup() != caller.cgroup or process.uids() != {caller.uid}:
            raise RefusedError(
                Code.NOT_YOURS, f"process {pid} is none of the caller's: it must be of its user, in its service"
            )
        yield process
    finally:
        process.close()


def sender_of(ancillary: list[tuple[int, int, bytes]]) -> int:
    """Given a packet's ancillary data, return the sender's pid, 0 where there is none. Descriptors are closed."""
    pid = 0
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(data) >= _CREDENTIALS.size:
            pid = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0]
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            for (descriptor,) in struct.iter_unpack("i", data[: len(data) // 4 * 4]):
                os.close(descriptor)
    return pid
