"""What an agent has at --agent-address, within this process."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from local_agent.service import health
from local_agent.service.health import Health, Pages
from local_agent.settings.address import Address

SECONDS = 60
_STATUS_LINE = re.compile(rb"HTTP/1\.1 \d")


class Agent:
    """What the address is there for. `pokes` counts."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pokes = 0

    def poke(self) -> None:
        """Count."""
        self.pokes += 1

    def connect(self) -> socket.socket:
        """Return a new connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def talk(self, request: bytes) -> tuple[int, bytes]:
        """Send bytes; return the status and the body of the one answer."""
        with self.connect() as connection:
            connection.sendall(request)
            answer = b""
            try:
                while part := connection.recv(65_536):
                    answer += part
            except ConnectionResetError:
                pass
        assert len(_STATUS_LINE.findall(answer)) == 1
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\nConnection: close" in head
        return int(head.split()[1]), body

    def ask(self, path: str, *headers: str) -> tuple[int, bytes]:
        """GET a path, with the usual Host if none is given."""
        host = () if any(header.startswith("Host:") for header in headers) else ("Host: localhost:8080",)
        return self.talk("\r\n".join([f"GET {path} HTTP/1.1", *host, *headers, "", ""]).encode())


@contextmanager
def served(seconds: float = 5.0) -> Iterator[Agent]:
    """Serve for the length of the context."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    agent = Agent(port)
    pages = Pages(lambda: Health("", 0.0), agent.poke, lambda: b"counted 1\n")
    with health.served(Address("127.0.0.1", port), pages, seconds):
        yield agent
