"""HTTP to an API: kept-alive connections, requests bounded in time and size, failures in words.

Every backend's transport stands on it: what is sent and what an answer means is the transport's business.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

import requests
import urllib3

from local_agent.aio.threads import Workers
from local_agent.backends import body as answered
from local_agent.backends.bounded import Call, Calls
from local_agent.backends.replies import Reply, pause_asked_for
from local_agent.errors import ApiUnreachableError, LocalAgentError
from local_agent.plain import short, shown_url, unix_path, without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from local_agent.backends import Observe

_Value = TypeVar("_Value")

_CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Request:
    """What to send: `path` is what comes after the API's URL, quoted, with its query; "" for the URL itself."""

    method: str
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # credentials are in them
    body: bytes | None = None


class Http:
    """Sends requests to the API at `url`, at most so many at once, each from a thread.

    A request takes at most `timeout_seconds` of silence and twice that in all, so that a server which answers one byte
    a second cannot hold anybody for ever. `observe` is told of each how long it took and what was raised, if anything.
    `verify` is what requests calls so: False, or the path of a file of CAs; None is what the environment says.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        most_at_once: int = 4,
        observe: Observe | None = None,
        verify: str | bool | None = None,
    ) -> None:
        self.url = shown_url(url)  # as it may be shown
        self.unix_path = unix_path(url)
        where, self.credentials = ("http://localhost", "") if self.unix_path else _split(url)
        self._timeout_seconds = timeout_seconds
        self._observe = observe
        self._workers = Workers("api", most_at_once)
        self._calls = Calls()
        self._session = self._calls.session(most_at_once, self.unix_path)
        # a .netrc must not replace the key; proxies and CA bundles still come from the environment
        self._session.auth = lambda request: request
        # asked once: what requests finds out anew for each request is a third of what one costs (2.28)
        headers = {"Accept-Encoding": answered.ACCEPTED}
        self._request = self._session.prepare_request(requests.Request("GET", where, headers=headers))
        self._environment = self._session.merge_environment_settings(where, {}, stream=True, verify=verify, cert=None)
        self._proxy = requests.utils.select_proxy(where, self._environment["proxies"]) or ""
        self._not_before = 0.0

    def __repr__(self) -> str:
        return f"Http({self.url!r})"

    def close(self) -> None:
        """Close every connection. A request that is under way is left to its thread."""
        self._workers.close()
        self._session.close()

    async def ask(self, request: Request, understand: Callable[[Reply], _Value]) -> _Value:
        """Send a request and return what its answer means. `understand` says so, in the thread that got the answer.

        Raise ApiUnreachableError where no answer comes (what was asked may have been done), or where the API has asked
        to be left alone, which is heeded for every request; and what `understand` raises.
        """
        began, failure = time.monotonic(), None
        try:
            self._heed_the_pause()
            return await self._in_time(lambda call: understand(self._exchange(call, request)))
        except LocalAgentError as error:
            failure = error
            raise
        finally:
            if self._observe is not None:
                self._observe(time.monotonic() - began, failure)

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

    def _exchange(self, call: Call, request: Request) -> Reply:
        try:
            with self._calls.carrying_out(call):
                reply = self._send(self._prepared(request))
        # what urllib3 raises is not all wrapped
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise self._unreachable(error, was_cut=call.was_cut) from error
        if call.was_cut:
            raise self._unreachable(TimeoutError(), was_cut=True)
        if pause := pause_asked_for(reply):
            self._not_before = time.monotonic() + pause
        return reply

    def _prepared(self, request: Request) -> requests.PreparedRequest:
        prepared = self._request.copy()
        prepared.method = request.method
        if request.path:
            prepared.url = f"{prepared.url.rstrip('/')}{request.path}"
        prepared.headers.update(request.headers)
        prepared.prepare_body(request.body, files=None)
        return prepared

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
