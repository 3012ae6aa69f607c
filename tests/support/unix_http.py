"""HTTP over a unix socket. Also run as a program, by another user: `unix_http.py SOCKET METHOD PATH [BODY]`."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from support.users import environment

SECONDS = 60
HELLO = '{"query": "{ hello }"}'


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def request(path: Path, method: str, target: str, body: str | None = None) -> tuple[int, dict[str, object]]:
    """Make one request and return its status and JSON."""
    connection = _Connection(path)
    try:
        connection.request(method, target, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def request_as(user: Sequence[str], path: Path, *given: str) -> tuple[int, dict[str, object]]:
    """The same as another user; `user` are the words before a command that make it so."""
    command = [*user, sys.executable, __file__, str(path), *given]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=SECONDS, check=True)
    status, answer = json.loads(done.stdout)
    return status, answer


if __name__ == "__main__":
    sys.stdout.write(json.dumps(request(Path(sys.argv[1]), *sys.argv[2:])))
