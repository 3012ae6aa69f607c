"""Where the agent's own small HTTP service listens, as people write it: a URL, or a host and a port."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from local_agent.plain import MASK, short

_MAX_PORT = 65_535
_ADDRESS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)?(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<name>[^:/?#@\[\]]*)):(?P<port>[0-9]{1,5})/?",
    re.ASCII | re.IGNORECASE,
)
_NAME = re.compile(r"[0-9a-z_](?:[0-9a-z._-]{0,251}[0-9a-z_.])?", re.ASCII | re.IGNORECASE)
_MAX_LABEL = 63


@dataclass(frozen=True)
class Address:
    """Where it listens: an IPv6 address without brackets, an IPv4 address or a name; "" is every interface."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Given `http://HOST:PORT` or `HOST:PORT`, return it. Raise ValueError, which says what is right instead."""
    match = _ADDRESS.fullmatch(text)
    why = _why_not(text) if match is None else _why_not_match(match)
    if match is None or why:
        raise ValueError(f'"{_shown(text)}" is not a host and a port: {why}')
    host = match["name"] if match["bracketed"] is None else _as_ipv6(match["bracketed"])
    return Address(host.lower() if "%" not in host else host, int(match["port"]))


def _shown(text: str) -> str:
    """Return what was written, without a user's password."""
    _, at, rest = text.rpartition("@")
    return short(f"{MASK}@{rest}" if at else text)


def _as_ipv6(text: str) -> str:
    """Return an IPv6 address as it is listened at: that of an IPv4 address (RFC 4291, 2.5.5.2) is that."""
    mapped = ipaddress.IPv6Address(text).ipv4_mapped
    return text if mapped is None else str(mapped)


def _why_not_match(match: re.Match[str]) -> str:
    if match["scheme"] and match["scheme"].lower() != "http://":
        return "it is served as http:// only"
    if not 0 < int(match["port"]) <= _MAX_PORT:
        return f"a port is a number from 1 to {_MAX_PORT}"
    if match["bracketed"] is not None:
        return "" if _is_ipv6(match["bracketed"]) else "in brackets stands an IPv6 address, as in [::1]:8080"
    return _why_no_name(match["name"])


def _why_no_name(name: str) -> str:
    if name == "*":
        return "every interface is an empty host, as in :8080"
    labels = name.removesuffix(".").split(".")
    is_name = not name or (_NAME.fullmatch(name) and all(0 < len(label) <= _MAX_LABEL for label in labels))
    return "" if is_name else "its host is neither an address nor the ASCII form of a name"


def _why_not(text: str) -> str:
    bare = re.sub(r"^[a-z]+://", "", text, flags=re.IGNORECASE)
    if "@" in bare:
        return "nobody logs in there, so it takes no user"
    if bare.count(":") > 1 and "[" not in bare:
        return "an IPv6 address stands in brackets, as in [::1]:8080"
    if re.search(r"[/?#].", bare):
        return "nothing follows the port"
    return "it is written as 127.0.0.1:8080, [::1]:8080, or :8080 for every interface"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
