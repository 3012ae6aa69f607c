"""Hands a connection's bytes on to the parser, one whole request at a time, and only if its head is beyond doubt."""

from __future__ import annotations

from local_agent.net import http_guard
from local_agent.net.http_guard import END_OF_HEAD, Head


class Framing:
    """The bytes of one connection. What a client sends before it has its answer is kept until then."""

    def __init__(self, most_body_bytes: int, small_bytes: int) -> None:
        self._most_body_bytes = most_body_bytes
        self._small_bytes = small_bytes
        self._held = bytearray()
        self._left = 0
        self._is_answering = False
        self.head = Head("", "", {}, 0, is_last=True)  # of the request that is being answered
        self._whole: bytes | None = None
        self._is_over = False  # nothing is read after a request that says that it is the last

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
        if self._left or self._is_answering:
            return taken
        if self._is_over:
            self._held.clear()
            return taken
        return taken + self._next_request()

    def _rest_of_request(self) -> bytes:
        taken = bytes(self._held[: self._left])
        del self._held[: self._left]
        self._left -= len(taken)
        return taken

    def _next_request(self) -> bytes:
        """Begin with what is held, if a whole head is there."""
        if self._held.startswith(b"\r\n"):  # some clients send one too many after a body
            del self._held[:2]
        end = self._held.find(END_OF_HEAD, 0, http_guard.MAX_HEAD_BYTES)
        if end < 0:
            http_guard.check_beginning(self._held)
            return b""
        self.head = http_guard.read_head(bytes(self._held[: end + len(END_OF_HEAD)]), self._most_body_bytes)
        del self._held[: end + len(END_OF_HEAD)]
        self._left = self.head.body_bytes
        self._is_answering = True
        self._is_over = self.head.is_last
        if self._is_simple():
            self._whole = self._rest_of_request()
            return b""
        return _for_the_parser(self.head) + self._rest_of_request()

    def _is_simple(self) -> bool:
        """Whether a request is a small POST that has come whole, as nearly all are: nothing is left to be read."""
        small = self.head.body_bytes <= min(len(self._held), self._small_bytes)
        return small and self.head.method == "POST" and "expect" not in self.head.headers

    def take_whole(self) -> bytes | None:
        """Return the body of a request that is whole, once; the parser gets nothing of it."""
        whole, self._whole = self._whole, None
        return whole


def _for_the_parser(head: Head) -> bytes:
    """Return a head of our own words with the same length of body.

    The parser so reads nothing that a client has written, and need not look at headers that nobody asks it for.
    """
    last = b"Connection: close\r\n" if head.is_last else b""
    return b"POST / HTTP/1.1\r\nHost: -\r\nContent-Length: %d\r\n%b\r\n" % (head.body_bytes, last)
