"""What an answer of a Prefect 3 API means: its JSON, a refusal, or the word of something else that stands before it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from local_agent.backends.fields import WrongFieldError, load_json
from local_agent.backends.replies import hint_for, refusal_of_status, what_came
from local_agent.errors import (
    ApiRefusedError,
    ApiUnreachableError,
    CredentialError,
    LocalAgentError,
    NotUnderstoodError,
)
from local_agent.plain import short

if TYPE_CHECKING:
    from local_agent.backends.replies import Reply

_WANTED = "JSON"
_MAX_MESSAGE = 500
_TIMED_OUT = 408
# which the server says to every request that changes anything, before it looks at credentials
_CSRF = "csrf"
_NO_PAGE = "is it the URL of the API? A server's own ends in /api: http://HOST:4200/api"


class CsrfError(ApiRefusedError):
    """The server wants a token with each request that changes anything, and did nothing without one."""


def understood(reply: Reply, url: str, *, has_credentials: bool) -> Any:  # noqa: ANN401 - any JSON
    """Return the JSON of an answer, None where it is empty. `url` is the API's, as it may be shown.

    Raise ApiUnreachableError where it says "not now" or is not the API's own, CredentialError where the credentials are
    refused, CsrfError where a token is missing or old, and ApiRefusedError, whose code is the status, for every other
    refusal.
    """
    error = _refusal(reply, url, has_credentials=has_credentials)
    if error is not None:
        raise error
    if not reply.content.strip():
        return None
    if reply.is_web_page:
        raise ApiUnreachableError(what_came(reply, url, _WANTED), hint=_NO_PAGE)
    try:
        return load_json(reply.content)
    except WrongFieldError as wrong:
        raise NotUnderstoodError(what_came(reply, url, _WANTED), hint=_NO_PAGE) from wrong


def not_understood(error: Exception) -> NotUnderstoodError:
    """Given what is wrong with an answer, return it as one of our errors."""
    return NotUnderstoodError(
        f"the API's answer cannot be understood: {error}", hint="is its version Prefect 2.20 or 3?"
    )


def is_missing(error: ApiRefusedError) -> bool:
    """Tell whether the API said that there is no such thing, or no such route."""
    return error.code in ("404", "405")


def _refusal(reply: Reply, url: str, *, has_credentials: bool) -> LocalAgentError | None:
    if reply.is_web_page and 200 <= reply.status < 500:
        return ApiUnreachableError(what_came(reply, url, _WANTED), hint=_NO_PAGE)
    if reply.status == 403 and _CSRF in _message_of(reply).lower():
        return CsrfError(f"the API at {url} says: {_message_of(reply)}", code="403")
    if reply.status in (401, 403):
        return _credentials_refused(url, has_credentials=has_credentials)
    if reply.status == _TIMED_OUT:
        return ApiUnreachableError(what_came(reply, url, _WANTED), hint=hint_for(reply))
    error = refusal_of_status(reply, url, _WANTED, has_key=has_credentials)
    if error is None and reply.status >= 400:
        error = ApiRefusedError(
            f"the API refuses with HTTP {reply.status}: {_message_of(reply)}", code=str(reply.status)
        )
    return error


def _credentials_refused(url: str, *, has_credentials: bool) -> CredentialError:
    if has_credentials:
        return CredentialError(
            f"the API at {url} does not accept the credentials",
            hint="check the API key, or the auth string (USER:PASSWORD) of a server of your own",
        )
    return CredentialError(
        f"the API at {url} asks for credentials, and none are set",
        hint="give the agent an API key, or the auth string (USER:PASSWORD) of a server of your own",
    )


def _message_of(reply: Reply) -> str:
    """Return what the API says, in one line: FastAPI's `detail`, or Prefect's own."""
    told: object = None
    with contextlib.suppress(WrongFieldError):
        told = load_json(reply.content)
    if isinstance(told, dict):
        told = told.get("detail") or told.get("exception_message") or told.get("exception_detail") or told
    return short(str(told if told is not None else reply.content[:_MAX_MESSAGE].decode(errors="replace")), _MAX_MESSAGE)
