"""HTTP to a Prefect 1 API: one kept-alive session, every answer either GraphQL or one of our errors."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import time
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import requests
import urllib3

from local_agent.aio.threads import Workers
from local_agent.backends.prefect1 import access
from local_agent.backends.prefect1 import body as answered
from local_agent.backends.prefect1.answers import Answer, Reply, pause_asked_for, refusal_of_status, understood
from local_agent.backends.prefect1.api_clock import ApiClock
from local_agent.backends.prefect1.bounded import Call, Calls
from local_agent.errors import ApiUnreachableError
from local_agent.plain import short, shown_url, unix_path, without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from local_agent.backends.prefect1.access import Access

__all__ = ["Answer", "Transport"]

_Value = TypeVar("_Value")

_CORE_VERSION = "1.4.1"  # the API serves what this version of the client understands
_CONNECT_SECONDS = 5.0


class Transport:
    """Sends GraphQL documents to `url`.

    A request takes at most `timeout_seconds` of silence and twice that in all, so that a server which answers one byte
    a second cannot hold anybody for ever.
    """

    def __init__(
        self, url: str, *, api_key: str, tenant_id: str, timeout_seconds: float, most_at_once: int = 4
    ) -> None:
        self.url = shown_url(url)  # as it may be shown
        self.unix_path = unix_path(url)
        where, self._basic = ("http://localhost", "") if self.unix_path else _split(url)
        self._timeout_seconds = timeout_seconds
        self._workers = Workers("api", most_at_once)
        self._headers = {
            "X-PREFECT-CORE-VERSION": _CORE_VERSION,
            "Content-Type": "application/json",
            "Accept-Encoding": answered.ACCEPTED,
        }
        self._calls = Calls()
        self._session = self._calls.session(most_at_once, self.unix_path)
        # a .netrc must not replace the key; proxies and CA bundles still come from the environment
        self._session.auth = lambda request: request
        # asked once: what requests finds out anew for each request is a third of what one costs (2.28)
        self._request = self._session.prepare_request(requests.Request("POST", where))
        self._environment = self._session.merge_environment_settings(where, {}, stream=True, verify=None, cert=None)
        self._proxy = requests.utils.select_proxy(where, self._environment["proxies"]) or ""
        self._not_before = 0.0
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
        if self._basic:
            self._headers["Authorization"] = self._basic
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
        self._workers.close()
        self._session.close()

    async def ask(self, query: str, variables: Mapping[str, Any] | None = None) -> Answer:
        """Send one document and return its answer, whose root fields may carry errors of their own.

        Raise ApiUnreachableError when there is no answer or one that is not GraphQL (the request may have been
        carried out), CredentialError when the key is refused, ApiRefusedError when the whole document is.
        """
        self._heed_the_pause()
        # Prefect's own client sends the variables as a JSON string; it is the one form every server must take.
        body = json.dumps({"query": query, "variables": json.dumps(variables)}).encode()
        headers = dict(self._headers)
        return await self._in_time(lambda call: self._post(call, body, headers))

    async def ask_access(self) -> Access:
        """Ask an API behind a unix socket where flow runs find it. Raise as `ask`."""
        return await self._in_time(self._get_access)

    async def _in_time(self, carry_out: Callable[[Call], _Value]) -> _Value:
        call = Call()
        limit = asyncio.get_running_loop().call_later(2 * self._timeout_seconds, call.cut)
        try:
            return await self._workers.run(lambda: carry_out(call))
        finally:
            limit.cancel()

    def _heed_the_pause(self) -> None:
        left = self._not_before - time.monotonic()
        if left > 0:
            raise ApiUnreachableError(
                f"{self.url} asked to be left alone, for {left:.0f} s more",
                hint="its rate limit is reached; `poll_interval` makes this agent ask less",
            )

    def _post(self, call: Call, body: bytes, headers: Mapping[str, str]) -> Answer:
        request = self._request.copy()
        request.headers.update(headers)
        request.prepare_body(body, files=None)
        reply = self._exchange(call, request)
        if pause := pause_asked_for(reply):
            self._not_before = time.monotonic() + pause
        answer = understood(reply, self.url, has_key=bool(self._api_key))
        self.api_clock.hear_date(reply.header("Date"))
        return answer

    def _get_access(self, call: Call) -> Access:
        request = self._session.prepare_request(requests.Request("GET", f"{self._request.url}{access.PATH[1:]}"))
        reply = self._exchange(call, request)
        refused = refusal_of_status(reply, self.url, has_key=bool(self._api_key))
        if refused is not None:
            raise refused
        return access.access_of(reply, self.url)

    def _exchange(self, call: Call, request: requests.PreparedRequest) -> Reply:
        try:
            with self._calls.carrying_out(call):
                reply = self._send(request)
        # what urllib3 raises is not all wrapped
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise self._unreachable(error, was_cut=call.was_cut) from error
        if call.was_cut:
            raise self._unreachable(TimeoutError(), was_cut=True)
        return reply

    def _send(self, request: requests.PreparedRequest) -> Reply:
        response = self._session.send(
            request,
            timeout=(min(_CONNECT_SECONDS, self._timeout_seconds), self._timeout_seconds),
            allow_redirects=False,
            **self._environment,
        )
        with response:
            return Reply(response.status_code, response.headers, answered.read(response, self.url))

    def _unreachable(self, error: BaseException, *, was_cut: bool) -> ApiUnreachableError:
        reason = "no answer in time" if was_cut else _in_words(error)
        if isinstance(error, requests.exceptions.ProxyError):
            return ApiUnreachableError(
                f"the proxy {shown_url(self._proxy)} does not answer, through which {self.url} is asked: {reason}",
                hint="https_proxy, http_proxy and no_proxy in the agent's environment say which proxy is used for what",
            )
        through = f" through the proxy {shown_url(self._proxy)}" if self._proxy else ""
        hint = "check that it runs and that this machine may reach it"
        if self.unix_path:
            hint = f"check that it runs, and that this agent's user may use its socket: namei -l {self.unix_path}"
        return ApiUnreachableError(f"the API at {self.url} does not answer{through}: {reason}", hint=hint)


def _split(url: str) -> tuple[str, str]:
    """Given a URL, return it without user and password, and these as an Authorization header, "" without them."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, ""
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    where = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return where, f"Basic {base64.b64encode(pair.encode(errors='surrogateescape')).decode()}"


def _in_words(error: BaseException) -> str:
    """Given what requests raised, return its innermost reason: the outer ones only repeat the URL."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    # what else is in the chain are attempts of the libraries themselves that failed by design
    reasons = [one for one in _chain(error) if isinstance(one, (OSError, http.client.HTTPException))]
    innermost = reasons[-1] if reasons else error
    words = getattr(innermost, "strerror", None) or str(innermost) or type(innermost).__name__
    return short(without_credentials(" ".join(str(words).split())))  # what a stranger sent may be quoted in it


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Return an error and what it came from, the innermost last."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
