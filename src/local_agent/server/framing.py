"""Hands a connection's bytes on to the parser, one whole request at a time, and only if its head is beyond doubt."""

from __future__ import annotations

from local_agent import http_guard
from local_agent.http_guard import END_OF_HEAD


class Framing:
    """The bytes of one connection. What a client sends before it has its answer is kept until then."""

    def __init__(self, most_body_bytes: int) -> None:
        self._most_body_bytes = most_body_bytes
        self._held = bytearray()
        self._left = 0
        self._is_answering = False

    @property
    def held_bytes(self) -> int:
        """How much is kept here."""
        return len(self._held)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a request has come, and none is being answered."""
        return not (self._held or self._left or self._is_answering)

    @property
    def is_receiving(self) -> bool:
        """Whether a request has begun to come, and is not whole yet."""
        return bool(self._left or (self._held and not self._is_answering))

    def forget(self) -> None:
        """Keep nothing of what came: it was refused."""
        self._held.clear()

    def receive(self, data: bytes) -> bytes:
        """Given what came, return what the parser is to have of it now. Raise RefusedHeadError."""
        if self._left >= len(data) and not self._held:
            self._left -= len(data)
            return data
        self._held += data
        return self._take()

    def answered(self) -> bytes:
        """The request has its answer: return what the parser is to have of what came meanwhile. As `receive`."""
        self._is_answering = False
        return self._take()

    def _take(self) -> bytes:
        taken = self._rest_of_request()
        if not (self._left or self._is_answering) and self._head_is_whole():
            self._is_answering = True
            taken += self._rest_of_request()
        return taken

    def _rest_of_request(self) -> bytes:
        taken = bytes(self._held[: self._left])
        del self._held[: self._left]
        self._left -= len(taken)
        return taken

    def _head_is_whole(self) -> bool:
        """Say whether a whole head is here, and have `_left` count all of its request."""
        if self._held.startswith(b"\r\n"):  # some clients send one too many after a body
            del self._held[:2]
        end = self._held.find(END_OF_HEAD, 0, http_guard.MOST_HEAD_BYTES)
        if end < 0:
            http_guard.check_beginning(self._held)
            return False
        head = bytes(self._held[: end + len(END_OF_HEAD)])
        self._left = len(head) + http_guard.body_length(head, self._most_body_bytes)
        return True
