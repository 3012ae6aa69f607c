"""GraphQL to a Prefect 1 API: what each request carries, and every answer either GraphQL or one of our errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from local_agent.backends.http import Http, Request
from local_agent.backends.prefect1 import access
from local_agent.backends.prefect1.answers import Answer, refused, understood
from local_agent.backends.prefect1.api_clock import ApiClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_agent.backends import Observe
    from local_agent.backends.prefect1.access import Access
    from local_agent.backends.replies import Reply

__all__ = ["Answer", "Transport"]

_CORE_VERSION = "1.4.1"  # the API serves what this version of the client understands


class Transport:
    """Sends GraphQL documents to `url`, bounded as `Http` does."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str,
        tenant_id: str,
        timeout_seconds: float,
        most_at_once: int = 4,
        observe: Observe | None = None,
    ) -> None:
        self._http = Http(url, timeout_seconds=timeout_seconds, most_at_once=most_at_once, observe=observe)
        self.url = self._http.url  # as it may be shown
        self.unix_path = self._http.unix_path
        self._headers = {"X-PREFECT-CORE-VERSION": _CORE_VERSION, "Content-Type": "application/json"}
        self.api_clock = ApiClock()
        self.use_key(api_key)
        if tenant_id:
            self.use_tenant(tenant_id)

    def __repr__(self) -> str:
        return f"Transport({self.url!r})"  # never the headers: they hold the key

    def use_key(self, api_key: str) -> None:
        """Send another API key from now on, or none where it is "": a reload may bring one."""
        self._api_key = api_key
        # there is one such header: what stands in the URL goes first, as with Prefect's own client
        if self._http.credentials:
            self._headers["Authorization"] = self._http.credentials
        elif api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        else:
            self._headers.pop("Authorization", None)

    def use_tenant(self, tenant_id: str) -> None:
        """Send the tenant with each request from now on, as Cloud wants it with a key."""
        if self._api_key:
            self._headers["X-PREFECT-TENANT-ID"] = tenant_id

    def use_agent_id(self, agent_id: str) -> None:
        """Send the registered agent's id with each request from now on."""
        self._headers["X-PREFECT-AGENT-ID"] = agent_id

    def close(self) -> None:
        """Close every connection. A request that is under way is left to its thread."""
        self._http.close()

    async def ask(self, query: str, variables: Mapping[str, Any] | None = None) -> Answer:
        """Send one document and return its answer, whose root fields may carry errors of their own.

        Raise ApiUnreachableError when there is no answer or one that is not GraphQL (the request may have been
        carried out), CredentialError when the key is refused, ApiRefusedError when the whole document is.
        """
        # Prefect's own client sends the variables as a JSON string; it is the one form every server must take.
        body = json.dumps({"query": query, "variables": json.dumps(variables)}).encode()
        return await self._http.ask(Request("POST", headers=dict(self._headers), body=body), self._understood)

    async def ask_access(self) -> Access:
        """Ask an API behind a unix socket where flow runs find it. Raise as `ask`."""
        return await self._http.ask(Request("GET", access.PATH), self._access_in)

    def _understood(self, reply: Reply) -> Answer:
        answer = understood(reply, self.url, has_key=bool(self._api_key))
        self.api_clock.hear_date(reply.header("Date"))
        return answer

    def _access_in(self, reply: Reply) -> Access:
        error = refused(reply, self.url, has_key=bool(self._api_key))
        if error is not None:
            raise error
        return access.access_of(reply, self.url)
