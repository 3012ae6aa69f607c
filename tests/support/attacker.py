"""Somebody who sends an API costly requests, in a process of its own, and notes what each came to.

Also run as a program: `attacker.py URL`. It reads bodies from its standard input, one a line as JSON text, sends each,
and writes a line for each answer: seconds, status, the beginning of its body.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

_SHOWN = 500
_WAIT_SECONDS = 120


@dataclass(frozen=True)
class Came:
    """What came of a request; status 0 is no answer."""

    seconds: float
    status: int
    text: str


class Attacker:
    """A process that sends what it is given, one after another."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def send(self, bodies: Sequence[bytes]) -> list[Came]:
        """Have requests sent, each when the one before has its answer, and return what came of each."""
        self.begin(bodies)
        return self.end(len(bodies))

    def begin(self, bodies: Sequence[bytes]) -> None:
        """Have requests sent, and do not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([body.decode() for body in bodies]) + "\n")
        self._process.stdin.flush()

    def end(self, count: int) -> list[Came]:
        """Wait for so many answers."""
        assert self._process.stdout is not None
        return [Came(**json.loads(self._process.stdout.readline())) for _ in range(count)]


@contextmanager
def attacker(url: str) -> Iterator[Attacker]:
    """Have an attacker for the length of the context."""
    command = [sys.executable, __file__, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Attacker(process)
        finally:
            process.kill()


def _send(address: str, body: str) -> Came:
    begun = time.monotonic()
    connection = http.client.HTTPConnection(address, timeout=_WAIT_SECONDS)
    try:
        connection.request("POST", "/", body.encode(), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        return Came(time.monotonic() - begun, response.status, text[:_SHOWN].decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException) as error:
        return Came(time.monotonic() - begun, 0, repr(error))
    finally:
        connection.close()


if __name__ == "__main__":
    for line in sys.stdin:
        for each in json.loads(line):
            print(json.dumps(vars(_send(urlsplit(sys.argv[1]).netloc, each))), flush=True)
