"""HTTP to a Prefect 1 API: one kept-alive session, every answer either GraphQL or one of our errors."""

from __future__ import annotations

import asyncio
import http.client
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

from local_agent.backends.prefect1.bounded import Call, Calls
from local_agent.errors import ApiRefusedError, ApiUnreachableError, CredentialError
from local_agent.threads import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_CORE_VERSION = "1.4.1"  # the API serves what this version of the client understands
_MOST_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A GraphQL answer: `data` by root field, and the errors as they came."""

    data: Mapping[str, Any]
    errors: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def error_of(self, root_field: str) -> ApiRefusedError | None:
        """Return the error of one root field, or None where it has none."""
        for error in self.errors:
            path = error.get("path") or []
            if path and path[0] == root_field:
                return refusal(error)
        return None


class Transport:
    """Sends GraphQL documents to `url`.

    A request takes at most `timeout_seconds` of silence and twice that in all, so that a server which answers one byte
    a second cannot hold anybody for ever.
    """

    def __init__(
        self, url: str, *, api_key: str, tenant_id: str, timeout_seconds: float, most_at_once: int = 4
    ) -> None:
        self.url = url
        self._timeout_seconds = timeout_seconds
        self._workers = Workers("api", most_at_once)
        self._headers = {"X-PREFECT-CORE-VERSION": _CORE_VERSION, "Content-Type": "application/json"}
        self._calls = Calls()
        self._session = self._calls.session(most_at_once)
        # a .netrc must not replace the key; proxies and CA bundles still come from the environment
        self._session.auth = lambda request: request
        # asked once: what requests finds out anew for each request is a third of what one costs (2.28)
        self._request = self._session.prepare_request(requests.Request("POST", url))
        self._environment = self._session.merge_environment_settings(url, {}, stream=True, verify=None, cert=None)
        self.use_key(api_key)
        if tenant_id:
            self.use_tenant(tenant_id)

    def __repr__(self) -> str:
        return f"Transport({self.url!r})"  # never the headers: they hold the key

    def use_key(self, api_key: str) -> None:
        """Send another API key from now on, or none where it is "": a reload may bring one."""
        self._api_key = api_key
        if api_key:
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
        # Prefect's own client sends the variables as a JSON string; it is the one form every server must take.
        body = json.dumps({"query": query, "variables": json.dumps(variables)}).encode()
        headers = dict(self._headers)
        call = Call()
        limit = asyncio.get_running_loop().call_later(2 * self._timeout_seconds, call.cut)
        try:
            return await self._workers.run(lambda: self._post(call, body, headers))
        finally:
            limit.cancel()

    def _post(self, call: Call, body: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            with self._calls.carrying_out(call):
                response, content = self._exchange(body, headers)
        except (requests.RequestException, OSError, ValueError) as error:
            raise self._unreachable("no answer in time" if call.was_cut else _in_words(error)) from error
        if call.was_cut:
            raise self._unreachable("no answer in time")
        return self._understand(response, content)

    def _exchange(self, body: bytes, headers: Mapping[str, str]) -> tuple[requests.Response, bytes]:
        request = self._request.copy()
        request.headers.update(headers)
        request.prepare_body(body, files=None)
        response = self._session.send(
            request,
            timeout=(min(_CONNECT_SECONDS, self._timeout_seconds), self._timeout_seconds),
            allow_redirects=False,
            **self._environment,
        )
        with response:
            return response, _read(response)

    def _unreachable(self, reason: str) -> ApiUnreachableError:
        return ApiUnreachableError(
            f"the API at {self.url} does not answer: {reason}",
            hint="check that it runs and that this machine may reach it",
        )

    def _understand(self, response: requests.Response, content: bytes) -> Answer:
        # a web page is a proxy's word and not the API's: it says nothing about the key
        if response.status_code in (401, 403) and not _is_web_page(content):
            raise self._key_refused()
        document = _as_graphql(content)
        if document is None or response.status_code >= 500 or response.status_code == 429:
            raise ApiUnreachableError(
                f"{self.url} answers HTTP {response.status_code} with {_kind_of(response, content)}",
                hint="if this is not the Prefect API's URL, set `api`; if it is, its own log says more",
            )
        if _is_about_the_key(document):
            raise self._key_refused()
        return _checked(self.url, document)

    def _key_refused(self) -> CredentialError:
        if not self._api_key:
            return CredentialError(
                f"the API at {self.url} asks for an API key, and none is set",
                hint="give the agent one: a systemd credential named api-key, `api_key_file`, or LOCAL_AGENT_API_KEY",
            )
        return CredentialError(
            f"the API at {self.url} does not accept the API key",
            hint="check the key (`local-agent config` shows where it comes from) and its tenant",
        )


def refusal(error: Mapping[str, Any]) -> ApiRefusedError:
    """Given one entry of a GraphQL answer's errors, return it as an ApiRefusedError."""
    extensions = error.get("extensions") or {}
    code = str(extensions.get("code", "")) if isinstance(extensions, dict) else ""
    return ApiRefusedError(f"the API refuses: {error.get('message', error)}", code=code)


def _errors_of(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [error for error in document.get("errors") or () if isinstance(error, dict)]


def _is_about_the_key(document: Mapping[str, Any]) -> bool:
    text = json.dumps(_errors_of(document))
    return "UNAUTHENTICATED" in text or "Malformed Authorization header" in text


def _checked(url: str, document: Mapping[str, Any]) -> Answer:
    errors = _errors_of(document)
    if "API_ERROR" in json.dumps(errors):  # Cloud's own word for "try again" (prefect 1.4.1, client.py)
        raise ApiUnreachableError(f"the API at {url} has a passing fault: {errors[0].get('message')}")
    data = document.get("data")
    if not isinstance(data, dict) or (errors and all(value is None for value in data.values()) and _whole(errors)):
        raise refusal(errors[0] if errors else {"message": "an answer without data"})
    return Answer(data, errors)


def _whole(errors: Sequence[Mapping[str, Any]]) -> bool:
    return not any(error.get("path") for error in errors)


def _read(response: requests.Response) -> bytes:
    chunks, size = [], 0
    for chunk in response.iter_content(_CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > _MOST_BYTES:
            raise ValueError(f"an answer of more than {_MOST_BYTES} bytes")
    return b"".join(chunks)


def _as_graphql(content: bytes) -> Mapping[str, Any] | None:
    try:
        document = json.loads(content)
    except ValueError:
        return None
    if not isinstance(document, dict) or not ("data" in document or "errors" in document):
        return None
    return document


def _is_web_page(content: bytes) -> bool:
    return content.lstrip()[:1] == b"<"


def _kind_of(response: requests.Response, content: bytes) -> str:
    if _is_web_page(content):
        return "a web page, not GraphQL"
    kind = response.headers.get("Content-Type", "no content type")
    return f"{len(content)} bytes of {kind.split(';')[0]}, not GraphQL" if content else "an empty body"


def _in_words(error: BaseException) -> str:
    """Given what requests raised, return its innermost reason: the outer ones only repeat the URL."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    # what else is in the chain are attempts of the libraries themselves that failed by design
    reasons = [one for one in _chain(error) if isinstance(one, (OSError, http.client.HTTPException))]
    innermost = reasons[-1] if reasons else error
    words = getattr(innermost, "strerror", None) or str(innermost) or type(innermost).__name__
    return " ".join(words.split())  # what a stranger sent may be quoted in it


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Return an error and what it came from, the innermost last."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
