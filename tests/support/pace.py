"""Clients in a process of their own, who ask for little as fast as they are answered, and how many answers they had.

Also run as a program: `pace.py URL COUNTER BODY...`: a client for each body, on a kept connection. COUNTER is a file of
eight bytes that always holds the number of answers. It ends with its standard input.
"""

from __future__ import annotations

import mmap
import selectors
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_COUNT = struct.Struct("Q")
_WAIT_SECONDS = 60.0


@dataclass
class Pace:
    """Requests a second of the same clients: alone, and in turn with that while others did something."""

    alone: list[float]
    meanwhile: list[float]

    @property
    def ratios(self) -> list[float]:
        """What was left of it in each turn, compared with the turns alone before and after."""
        around = zip(self.alone, self.alone[1:], strict=False)
        return [found / ((before + after) / 2) for found, (before, after) in zip(self.meanwhile, around, strict=True)]

    @property
    def kept(self) -> float:
        """The median of what was left."""
        return statistics.median(self.ratios)


class Clients:
    """The clients, while they ask."""

    def __init__(self, counter: mmap.mmap) -> None:
        self._counter = counter

    @property
    def count(self) -> int:
        """How many requests were answered."""
        return int(_COUNT.unpack_from(self._counter)[0])

    def rate(self, work: Callable[[], None]) -> tuple[float, float]:
        """Return the requests a second while a function runs, and how long that took."""
        before, begun = self.count, time.monotonic()
        work()
        seconds = time.monotonic() - begun
        return (self.count - before) / seconds, seconds

    def in_turn(self, works: Iterable[Callable[[], None]], least_seconds: float = 0.3) -> Pace:
        """Have each function run, and the clients alone before, between and after, each time about as long.

        Whatever else this machine does so slows both down.
        """
        pace = Pace([self.rate(lambda: time.sleep(1.0))[0]], [])
        for work in works:
            rate, seconds = self.rate(work)
            pace.meanwhile.append(rate)
            pause = max(seconds, least_seconds)
            pace.alone.append(self.rate(lambda pause=pause: time.sleep(pause))[0])  # type: ignore[misc]
        return pace


@contextmanager
def clients(url: str, bodies: Sequence[bytes], folder: Path) -> Iterator[Clients]:
    """Have a client for each body ask for the length of the context, in one process of their own."""
    path = folder / "answers"
    path.write_bytes(bytes(_COUNT.size))
    command = [sys.executable, __file__, url, str(path), *(body.decode() for body in bodies)]
    with (
        path.open("r+b") as file,
        mmap.mmap(file.fileno(), _COUNT.size) as counter,
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process,
    ):
        found = Clients(counter)
        try:
            _wait_for_the_first(found, process)
            yield found
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
        finally:
            process.kill()


def _wait_for_the_first(found: Clients, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _WAIT_SECONDS
    while not found.count:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < until, "nobody was answered"
        time.sleep(0.01)


class _Client:
    """One connection, on which the same request is sent whenever the one before has its answer."""

    def __init__(self, url: str, body: bytes) -> None:
        address = urlsplit(url)
        self.socket = socket.create_connection((address.hostname or "", address.port or 0), timeout=_WAIT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"POST / HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._received = b""

    def ask(self) -> None:
        """Send the request."""
        self.socket.sendall(self._request)

    def is_answered(self) -> bool:
        """Take what came, and say whether it is a whole answer. Raise AssertionError for one with errors."""
        came = self.socket.recv(1 << 16)
        assert came, "the API hung up"
        self._received += came
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return False
        self._received = b""
        assert body.startswith(b'{"data":{'), body
        return True


def _ask_until_stopped(url: str, counter: Path, bodies: Sequence[str]) -> None:
    answers = 0
    with selectors.DefaultSelector() as waiting, counter.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shown:
        waiting.register(sys.stdin, selectors.EVENT_READ, None)
        for body in bodies:
            client = _Client(url, body.encode())
            waiting.register(client.socket, selectors.EVENT_READ, client)
            client.ask()
        while True:
            for key, _ in waiting.select():
                if key.data is None:
                    return
                if key.data.is_answered():
                    answers += 1
                    _COUNT.pack_into(shown, 0, answers)
                    key.data.ask()


if __name__ == "__main__":
    _ask_until_stopped(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
