"""What an HTTP request must look like before anything is made of it, for whatever listens on this machine.

It reads no request: aiohttp and http.server do. It refuses what they, in some version, let pass or take in a way of
their own: two programs that read one request differently are how requests are smuggled.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

MAX_HEAD_BYTES = 32 * 1024
_MAX_HEADERS = 100
_MAX_LINE_BYTES = 8_000

END_OF_HEAD = b"\r\n\r\n"

# RFC 9112, narrowed: each line ends with CR LF, a name is followed by its colon, no value goes on in the next line, no
# control characters, a path begins with a slash.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD = re.compile(
    rb"(?P<method>" + _TOKEN + rb") (?:http://(?P<authority>[0-9A-Za-z._:\[\]-]+))?(?P<target>/[!\"$-~]*)"
    rb" HTTP/1\.(?P<minor>[01])\r\n(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n"
)
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::[0-9]{1,5})?")

# Said twice, these could mean one thing to whoever looks at the first and another to whoever looks at the last.
_ONLY_ONCE = frozenset(
    (
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "origin",
        "sec-fetch-site",
        "x-prefect-agent-id",
        "x-prefect-core-version",
        "x-prefect-tenant-id",
    )
)


class RefusedHeadError(Exception):
    """A request that is not read any further. Holds the status to answer with."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_beginning(part: bytes | bytearray) -> None:
    """Given a head that is not whole yet, raise RefusedHeadError if it is going to be refused anyway."""
    if len(part) > MAX_HEAD_BYTES:
        raise _too_large(f"The head of a request may have {MAX_HEAD_BYTES} bytes")
    # Who waits for an answer to lines that end otherwise would wait in vain.
    if part.count(b"\n") != part.count(b"\r\n"):
        raise _bad("A line of the head does not end with CR LF")


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request: `headers` by their names in lower case, and how many bytes of body follow.

    `is_last` says that no other request follows on the connection.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body_bytes: int
    is_last: bool


def read_head(head: bytes, most_bytes: int) -> Head:
    """Given a whole head, return what it says. Raise RefusedHeadError.

    A body needs a Content-Length, and only a POST has one.
    """
    found = _HEAD.fullmatch(head)
    if found is None:
        raise _bad("This is not HTTP/1.1 as RFC 9112 has it")
    headers = _headers(head.decode("latin-1").split("\r\n"))
    if found["authority"] is not None and found["authority"].decode() != headers["host"]:
        raise _bad("The Host is another than the one in the request's target")
    method = found["method"].decode()
    last = found["minor"] == b"0" or ("connection" in headers and "close" in headers["connection"].lower())
    path = found["target"].decode().partition("?")[0]
    return Head(method, path, headers, _length(headers, method, most_bytes), last)


def _headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > _MAX_HEADERS + 3:  # the request line, and two that are empty
        raise _too_large(f"A request may have {_MAX_HEADERS} headers")
    if max(map(len, lines)) > _MAX_LINE_BYTES:
        raise _too_large(f"A line of the head may have {_MAX_LINE_BYTES} bytes")
    headers: dict[str, str] = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        name = name.lower()
        if name in headers and name in _ONLY_ONCE:
            raise _bad("A header that may be there once is there twice")
        headers[name] = value.strip("\t ")
    _check_headers(headers)
    return headers


def _check_headers(headers: Mapping[str, str]) -> None:
    if "host" not in headers:
        raise _bad("A request needs a Host")
    if "upgrade" in headers:
        raise _bad("There is no other protocol here to upgrade to")
    if "transfer-encoding" in headers:
        raise RefusedHeadError(HTTPStatus.LENGTH_REQUIRED, "A request needs a Content-Length")


def _length(headers: Mapping[str, str], method: str, most_bytes: int) -> int:
    text = headers.get("content-length")
    if text is None:
        if method == "POST":
            raise RefusedHeadError(HTTPStatus.LENGTH_REQUIRED, "A request needs a Content-Length")
        return 0
    if not (text.isascii() and text.isdigit()):
        raise RefusedHeadError(HTTPStatus.LENGTH_REQUIRED, "A request needs a Content-Length")
    # int() refuses thousands of digits, and no length has them.
    if len(text) > len(str(most_bytes)) or int(text) > most_bytes:
        message = f"A request may have {most_bytes} bytes, not {text[:40]}"
        raise RefusedHeadError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
    if int(text) and method != "POST":
        raise _bad("Only a POST has a body here")
    return int(text)


def _bad(message: str) -> RefusedHeadError:
    return RefusedHeadError(HTTPStatus.BAD_REQUEST, message)


def _too_large(message: str) -> RefusedHeadError:
    return RefusedHeadError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message)


def host_name(host: str) -> str | None:
    """Given a Host header, return the name or address in it, in lower case and without brackets; None if it has none.

    Its port is not looked at: whoever forwards a port (`ssh -L`) names another one.
    """
    found = _HOST.fullmatch(host)
    return found["name"].strip("[]").lower().removesuffix(".") if found else None


def is_loopback(name: str) -> bool:
    """Say whether a host's name or address is only reached from its own machine."""
    address = as_address(name)
    return name == "localhost" if address is None else address.is_loopback


def as_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a host's name as the address that it is, or None where it is a name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_from_a_page(headers: Mapping[str, str]) -> bool:
    """Given headers (names in lower case), say whether a page of another site makes a browser ask this.

    Browsers say so since 2020 (Sec-Fetch-Site) to 2023; whoever uses an older one is protected by the rest.
    """
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
