"""The head of an HTTP/1.1 request, as far as an API for programs needs it: a method, a path and headers.

Python's own parser is that of e-mail: it takes four times as long as all the rest of a short request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from io import BufferedIOBase

# As Python's own server has them.
_MOST_LINE_BYTES = 65_536
_MOST_HEADERS = 100


class RefusedHeadError(Exception):
    """A request that is not read any further. Holds the status to answer with."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Head:
    """A request without its body. Headers are keyed in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    is_last: bool

    def body_length(self, most: int) -> int:
        """Return how many bytes follow. Raise RefusedHeadError for more than `most`, or if it is not said."""
        text = self.headers.get("content-length", "")
        if not (text.isascii() and text.isdigit()) or "transfer-encoding" in self.headers:
            raise RefusedHeadError(HTTPStatus.LENGTH_REQUIRED, "A request needs a Content-Length")
        if len(text) > len(str(most)) or int(text) > most:
            message = f"A request may have {most} bytes, not {text}"
            raise RefusedHeadError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        return int(text)


def read(stream: BufferedIOBase) -> Head | None:
    """Read the head of the next request. Return None where the client has hung up. Raise RefusedHeadError."""
    line = _line(stream)
    if line == b"\r\n":  # some clients send one too many after a body
        line = _line(stream)
    if not line:
        return None
    words = line.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise RefusedHeadError(HTTPStatus.BAD_REQUEST, "This is not HTTP/1.1")
    method, path, version = words
    headers = _headers(stream)
    if headers is None:
        return None
    connection = headers.get("connection", "").lower()
    is_last = "close" in connection or (version == "HTTP/1.0" and "keep-alive" not in connection)
    return Head(method, path, headers, is_last)


def _headers(stream: BufferedIOBase) -> dict[str, str] | None:
    headers: dict[str, str] = {}
    while (line := _line(stream)) not in (b"\r\n", b"\n"):
        if not line:
            return None
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or name.strip() != name:
            raise RefusedHeadError(HTTPStatus.BAD_REQUEST, "A header has no name, or begins or ends with a blank")
        name = name.lower()
        if name in headers and name == "content-length":
            raise RefusedHeadError(HTTPStatus.BAD_REQUEST, "A request has one Content-Length")
        headers[name] = value.strip()
        if len(headers) > _MOST_HEADERS:
            raise RefusedHeadError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "Too many headers")
    return headers


def _line(stream: BufferedIOBase) -> bytes:
    line = stream.readline(_MOST_LINE_BYTES + 1)
    if len(line) > _MOST_LINE_BYTES:
        raise RefusedHeadError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "A line of the head is too long")
    return line
