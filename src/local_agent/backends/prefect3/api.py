"""HTTP to a Prefect 3 API: JSON in, JSON out, and the token that some servers want with each change."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

import local_agent
from local_agent.backends.http import Http, Request
from local_agent.backends.prefect3.answers import CsrfError, understood
from local_agent.errors import ApiRefusedError

if TYPE_CHECKING:
    from local_agent.backends import Observe
    from local_agent.backends.prefect3.access import Access
    from local_agent.backends.replies import Reply

# the server treats some versions of Prefect's own client in their own way, by this header
_AGENT = f"local-agent/{local_agent.__version__}"


class Api:
    """Sends requests to the API that `access` names. `observe` is told of each.

    Every method returns the answer's JSON, None where it is empty, and raises as `answers.understood` does, and
    ApiUnreachableError where no answer comes: what was asked may have been done.
    """

    def __init__(self, access: Access, *, observe: Observe | None = None, most_at_once: int = 4) -> None:
        self._http = Http(
            access.url,
            timeout_seconds=access.timeout_seconds,
            most_at_once=most_at_once,
            observe=observe,
            verify=access.verify,
        )
        self._has_credentials = bool(access.authorization or self._http.credentials)
        authorization = access.authorization or self._http.credentials
        self._headers = {
            **access.headers,
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": _AGENT,
            **({"Authorization": authorization} if authorization else {}),
        }
        self._client = str(uuid.uuid4())
        self._token = ""
        self._renewal = asyncio.Lock()

    @property
    def url(self) -> str:
        """The API's URL, as it may be shown."""
        return self._http.url

    def close(self) -> None:
        """Close every connection. A request that is under way is left to its thread."""
        self._http.close()

    async def get(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        """Read what is at a path below the API's URL, quoted, with its query."""
        return await self._send("GET", path, None)

    async def post(self, path: str, body: object) -> Any:  # noqa: ANN401 - any JSON
        """Post a JSON body."""
        return await self._change("POST", path, body)

    async def patch(self, path: str, body: object) -> Any:  # noqa: ANN401 - any JSON
        """Change some fields."""
        return await self._change("PATCH", path, body)

    async def delete(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        """Delete what is at a path."""
        return await self._change("DELETE", path, None)

    async def _change(self, method: str, path: str, body: object) -> Any:  # noqa: ANN401 - any JSON
        token = self._token
        try:
            return await self._send(method, path, body)
        except CsrfError:
            await self._renew(token)
        return await self._send(method, path, body)

    async def _renew(self, old: str) -> None:
        """Ask for a token; of many that were refused with the same old one, one asks."""
        async with self._renewal:
            if self._token != old:
                return
            answer = await self._send("GET", f"/csrf-token?client={self._client}", None)
            token = answer.get("token") if isinstance(answer, dict) else None
            if not isinstance(token, str) or not token.isascii() or not token.isprintable():
                raise ApiRefusedError(f"the API at {self.url} wants a CSRF token and gives none")
            self._token = token

    async def _send(self, method: str, path: str, body: object) -> Any:  # noqa: ANN401 - any JSON
        headers = dict(self._headers)
        if self._token:
            headers |= {"Prefect-Csrf-Token": self._token, "Prefect-Csrf-Client": self._client}
        content = None if body is None else json.dumps(body).encode()
        return await self._http.ask(Request(method, path, headers, content), self._understood)

    def _understood(self, reply: Reply) -> Any:  # noqa: ANN401 - any JSON
        return understood(reply, self.url, has_credentials=self._has_credentials)
