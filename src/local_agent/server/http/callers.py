"""Who may ask, as far as the head of a request tells: programs of this machine, and no pages of strangers.

A page may send requests to any address that its reader's browser reaches, this API's too. The browser then names the
page's origin, except in requests that a form or an image could make; those cannot have `application/json`, and a
browser says where they come from in Sec-Fetch-Site. A page whose own name leads here (DNS rebinding) has that name in
Host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from local_agent.net import http_guard
from local_agent.net.http_guard import RefusedHeadError

_MAX_ID_CHARACTERS = 64
_IDS = ("x-prefect-agent-id", "x-prefect-tenant-id", "x-prefect-core-version")

# For a page that may ask: what it may send, and for how long its browser need not ask again.
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": ", ".join(
        ("authorization", "content-type", *_IDS, "x-prefect-interactive", "x-prefect-ui")
    ),
    "Access-Control-Max-Age": "600",
}


@dataclass(frozen=True)
class Callers:
    """The names that this API is served under, and the origins of the pages that may use it.

    `bound` are the addresses that it listens on; on all of them (0.0.0.0) any address may be in Host, as no page can
    make an address its own. `hosts` and `origins` are in lower case.
    """

    bound: frozenset[str]
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    def check(self, method: str, headers: Mapping[str, str]) -> None:
        """Raise RefusedHeadError if a request is not to be answered, whatever is in its body."""
        self._check_host(headers.get("host", ""))
        self._check_origin(headers)
        if method == "POST" and not _is_json(headers):
            raise RefusedHeadError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send Content-Type: application/json")
        for name in _IDS:
            if len(headers.get(name, "")) > _MAX_ID_CHARACTERS:
                raise RefusedHeadError(
                    HTTPStatus.BAD_REQUEST, f"The header {name} may have {_MAX_ID_CHARACTERS} characters"
                )

    def _check_host(self, host: str) -> None:
        name = http_guard.host_name(host)
        if name is None or not self._serves(name):
            shown = host[:100]
            raise RefusedHeadError(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"This API is not served as '{shown}'. If it is to be, start it with --allow-host {name or 'NAME'}",
            )

    def _serves(self, name: str) -> bool:
        if name in self.hosts or name in self.bound or http_guard.is_loopback(name):
            return True
        return http_guard.as_address(name) is not None and any(_is_every(each) for each in self.bound)

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        origin = headers.get("origin")
        if origin is None:
            if http_guard.is_from_a_page(headers):
                raise RefusedHeadError(HTTPStatus.FORBIDDEN, "Pages of other sites may not ask this API")
            return
        # A page that this API itself served; its Host has been looked at.
        is_own = origin.lower() == f"http://{headers.get('host', '').lower()}"
        if not is_own and not self.allows(origin):
            shown = origin[:200]
            raise RefusedHeadError(
                HTTPStatus.FORBIDDEN,
                f"Pages of {shown} may not ask this API. If they are to, start it with --allow-origin {shown}",
            )

    def allows(self, origin: str) -> bool:
        """Say whether pages of an origin may ask."""
        return origin.lower() in self.origins

    def cors(self, method: str, headers: Mapping[str, str]) -> dict[str, str]:
        """Given a request, return the headers of its answer that let an allowed page read it."""
        if not self.origins:
            return {}
        origin = headers.get("origin", "")
        if not self.allows(origin):
            return {"Vary": "Origin"}
        allowed = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        if method != "OPTIONS":
            return allowed
        if headers.get("access-control-request-private-network") == "true":
            allowed["Access-Control-Allow-Private-Network"] = "true"
        return {**allowed, **_PREFLIGHT}


def _is_every(address: str) -> bool:
    found = http_guard.as_address(address)
    return found is not None and found.is_unspecified


def _is_json(headers: Mapping[str, str]) -> bool:
    kind = headers.get("content-type", "").partition(";")[0]
    encoding = headers.get("content-encoding", "identity")
    return kind.strip().lower() == "application/json" and encoding.lower() == "identity"
