"""A reader that takes messages, does not read for a while, or refuses them."""

from __future__ import annotations

import threading


class Taker:
    """Takes what is written to it; while held it does not read, and while `error` is set each write fails."""

    name = "the reader"

    def __init__(self, *, is_stream: bool = True) -> None:
        self.is_stream = is_stream
        self.taken: list[bytes] = []
        self.error: OSError | None = None
        self.tries = 0
        self._reads = threading.Event()
        self._reads.set()

    def hold(self) -> None:
        """Read no more."""
        self._reads.clear()

    def release(self) -> None:
        """Read again."""
        self._reads.set()

    def write(self, message: bytes) -> int:
        """Take a message, once it is read."""
        self.tries += 1
        self._reads.wait()
        if self.error is not None:
            raise self.error
        self.taken.append(message)
        return len(message)

    @property
    def text(self) -> str:
        """Everything that was taken."""
        return b"".join(self.taken).decode()
