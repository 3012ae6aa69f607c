"""A server that writes what a test gives it, byte by byte if need be: for answers that no HTTP library would send."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self


class RawServer:
    """Answers every request on every connection with the same pieces, with a pause after each; then hangs up."""

    def __init__(
        self, pieces: Iterable[bytes], *, pause_seconds: float = 0.0, asked: list[bytes] | None = None
    ) -> None:
        """Given the pieces, headers included. `close` does not wait for the rest of them.

        Each request is added to `asked`.
        """
        self._asked = asked if asked is not None else []
        self._pieces = list(pieces)
        self._pause_seconds = pause_seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _start(self, target: object, *arguments: object) -> None:
        assert callable(target)
        thread = threading.Thread(target=target, args=arguments, name="raw-http")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        for connection in self._connections():
            self._start(self._answer, connection)

    def _connections(self) -> Iterator[socket.socket]:
        while not self._closing.is_set():
            try:
                yield self._listener.accept()[0]
            except OSError:
                return

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._asked.append(_request(connection))
            for piece in self._pieces:
                connection.sendall(piece)
                if self._closing.wait(self._pause_seconds):
                    return


def _request(connection: socket.socket) -> bytes:
    """Return a whole request: where some of it is left unread, to hang up takes the answer from who waits for it."""
    request = connection.recv(65536)
    while request and not _is_whole(request):
        more = connection.recv(65536)
        if not more:
            break
        request += more
    return request


def _is_whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
    return bool(end) and len(body) >= (int(length.group(1)) if length else 0)
