"""What an HTTP request must look like before anything is made of it, for whatever listens on this machine.

It reads no request: aiohttp and http.server do. It refuses what they, in some version, let pass or take in a way of
their own: two programs that read one request differently are how requests are smuggled.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from http import HTTPStatus

MOST_HEAD_BYTES = 32 * 1024
_MOST_HEADERS = 100
_MOST_LINE_BYTES = 8_000

END_OF_HEAD = b"\r\n\r\n"

# RFC 9112, narrowed: each line ends with CR LF, a name is followed by its colon, no value goes on in the next line, no
# control characters, a path begins with a slash.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD = re.compile(
    rb"(?P<method>" + _TOKEN + rb") /[!\"$-~]* HTTP/1\.[01]\r\n(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n"
)
_NAME = re.compile(rb"\r\n([^:\r\n]+):")
_LENGTH = re.compile(rb"\r\ncontent-length:[\t ]*([^\r\n]*?)[\t ]*\r\n", re.IGNORECASE)
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::[0-9]{1,5})?")

# Said twice, these could mean one thing to whoever looks at the first and another to whoever looks at the last.
_ONLY_ONCE = frozenset(
    (
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"origin",
        b"sec-fetch-site",
        b"x-prefect-agent-id",
        b"x-prefect-core-version",
        b"x-prefect-tenant-id",
    )
)


class RefusedHeadError(Exception):
    """A request that is not read any further. Holds the status to answer with."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_beginning(part: bytes | bytearray) -> None:
    """Given a head that is not whole yet, raise RefusedHeadError if it is going to be refused anyway."""
    if len(part) > MOST_HEAD_BYTES:
        raise _too_large(f"The head of a request may have {MOST_HEAD_BYTES} bytes")
    # Who waits for an answer to lines that end otherwise would wait in vain.
    if part.count(b"\n") != part.count(b"\r\n"):
        raise _bad("A line of the head does not end with CR LF")


def body_length(head: bytes, most_bytes: int) -> int:
    """Given a whole head, return how many bytes of body follow it. Raise RefusedHeadError.

    A body needs a Content-Length, and only a POST has one.
    """
    found = _HEAD.fullmatch(head)
    if found is None:
        raise _bad("This is not HTTP/1.1 as RFC 9112 has it")
    names = _names(head)
    if b"transfer-encoding" in names:
        raise RefusedHeadError(HTTPStatus.LENGTH_REQUIRED, "A request needs a Content-Length")
    return _length(head, found["method"], most_bytes)


def _names(head: bytes) -> list[bytes]:
    if max(map(len, head.split(b"\r\n"))) > _MOST_LINE_BYTES:
        raise _too_large(f"A line of the head may have {_MOST_LINE_BYTES} bytes")
    names = [name.lower() for name in _NAME.findall(head)]
    if len(names) > _MOST_HEADERS:
        raise _too_large(f"A request may have {_MOST_HEADERS} headers")
    once = [name for name in names if name in _ONLY_ONCE]
    if len(once) != len(set(once)):
        raise _bad("A header that may be there once is there twice")
    if b"host" not in once:
        raise _bad("A request needs a Host")
    if b"upgrade" in names:
        raise _bad("There is no other protocol here to upgrade to")
    return names


def _length(head: bytes, method: bytes, most_bytes: int) -> int:
    found = _LENGTH.search(head)
    if found is None:
        if method == b"POST":
            raise RefusedHeadError(HTTPStatus.LENGTH_REQUIRED, "A request needs a Content-Length")
        return 0
    text = found[1]
    if not text.isdigit():
        raise RefusedHeadError(HTTPStatus.LENGTH_REQUIRED, "A request needs a Content-Length")
    # int() refuses thousands of digits, and no length has them.
    if len(text) > len(str(most_bytes)) or int(text) > most_bytes:
        shown = text.decode()[:40]
        message = f"A request may have {most_bytes} bytes, not {shown}"
        raise RefusedHeadError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
    if int(text) and method != b"POST":
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
