"""A process inside a booted Debian that does as a test outside says. Runs inside, on the standard library alone.

`python3 puppet.py PORT NAME` connects to the test, on the loopback that both share. An order is one JSON line, and so
is its answer; bytes go as hexadecimal digits.
"""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MAX_BYTES = 1 << 20


class Puppet:
    """What can be ordered: each method is an order."""

    def __init__(self) -> None:
        self._connections: list[socket.socket] = []
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def connect(self, path: str) -> int:
        """Connect to a socket of packets; return the connection's number."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(path)
        self._connections.append(connection)
        return len(self._connections) - 1

    def send(self, number: int, data: str, *, descriptors: int = 0) -> None:
        """Send a packet, with some copies of standard input."""
        rights = array.array("i", [0] * descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
        self._connections[number].sendmsg([bytes.fromhex(data)], ancillary)

    def receive(self, number: int, seconds: float) -> str:
        """Return a packet, "" for the end."""
        self._connections[number].settimeout(seconds)
        try:
            return self._connections[number].recv(_MAX_BYTES).hex()
        except ConnectionResetError:
            return ""

    def converse(self, number: int, packets: list[str]) -> int:
        """Send packets and wait for an answer to each, until the other side hangs up; return how many were sent."""
        for sent, packet in enumerate(packets, 1):
            try:
                self.send(number, packet)
                answer = self._connections[number].recv(_MAX_BYTES)
                if b'"bad-message"' in answer or not answer:
                    return sent
            except (BrokenPipeError, ConnectionResetError):
                return sent
        return len(packets)

    def knock(self, path: str, times: int) -> int:
        """Connect as often, all at once, and return how many of the connections are hung up on."""
        connections = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(times)]
        ends = 0
        for connection in connections:
            connection.connect(path)
        for connection in connections:
            connection.settimeout(60)
            while connection.recv(_MAX_BYTES):
                pass
            connection.close()
            ends += 1
        return ends

    def send_until_refused(self, number: int, data: str, most: int) -> int:
        """Send the same packet again and again and read no answer; return how often it was taken."""
        self._connections[number].settimeout(5)
        for sent in range(most):
            try:
                self._connections[number].send(bytes.fromhex(data))
            except OSError:
                return sent
        return most

    def close(self, number: int) -> None:
        """Close a connection."""
        self._connections[number].close()

    def spawn(self, words: list[str]) -> int:
        """Start a child that inherits every connection; return its pid."""
        descriptors = [connection.fileno() for connection in self._connections if connection.fileno() >= 0]
        child = subprocess.Popen(words, pass_fds=descriptors, stdin=subprocess.DEVNULL)
        self._children[child.pid] = child
        return child.pid

    def end(self, pid: int) -> None:
        """Kill a child and wait for it."""
        child = self._children.pop(pid)
        child.kill()
        child.wait()

    def notify(self, text: str) -> None:
        """Tell systemd something (sd_notify(3))."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifying:
            notifying.sendto(text.encode(), os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))

    def cgroup(self) -> str:
        """Return the own cgroup."""
        return Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip()

    def inherit(self, descriptor: int) -> int:
        """Take a descriptor that was inherited as a connection; return its number."""
        self._connections.append(socket.socket(fileno=descriptor))
        return len(self._connections) - 1

    def fileno(self, number: int) -> int:
        """Return a connection's descriptor."""
        return self._connections[number].fileno()


def main(port: str, name: str) -> None:
    """Take orders until there are no more."""
    puppet = Puppet()
    with socket.create_connection(("127.0.0.1", int(port))) as connection, connection.makefile("rw") as lines:
        print(json.dumps({"name": name, "pid": os.getpid()}), file=lines, flush=True)
        for line in lines:
            order = json.loads(line)
            print(json.dumps(_carried_out(getattr(puppet, order["do"]), order)), file=lines, flush=True)


def _carried_out(method: Callable[..., Any], order: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"ok": method(*order["args"], **order["kwargs"])}
    except OSError as error:
        return {"error": type(error).__name__}


if __name__ == "__main__":
    main(*sys.argv[1:])
