"""What an answer of the API means: GraphQL, a refusal, or the word of something else that stands before it.

Whatever comes is one of these; nothing that an API or a proxy may answer raises anything but our own errors.
"""

from __future__ import annotations

import contextlib
import email.utils
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from local_agent.backends.prefect1.fields import WrongFieldError, load_json
from local_agent.errors import (
    ApiRefusedError,
    ApiUnreachableError,
    CredentialError,
    LocalAgentError,
    NotUnderstoodError,
    TooLargeError,
)
from local_agent.plain import short, shown_url, unix_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNAUTHENTICATED = "UNAUTHENTICATED"
_MALFORMED_KEY = "Malformed Authorization header"  # Cloud's own, which comes without a code
_PASSING = "API_ERROR"  # Cloud's word for "try again" (prefect 1.4.1, client.py)
_MOST_MESSAGE = 500
_MOST_PAUSE_SECONDS = 300.0  # whoever asks for a longer one is asked again


@dataclass(frozen=True, slots=True)
class Answer:
    """A GraphQL answer: `data` by root field, and the errors as they came."""

    data: Mapping[str, Any]
    errors: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def error_of(self, root_field: str) -> ApiRefusedError | None:
        """Return the error of one root field, or None where it has none."""
        for error in self.errors:
            path = _path_of(error)
            if path and path[0] == root_field:
                return refusal(error)
        return None


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: `headers` by name, whose case does not count."""

    status: int
    headers: Mapping[str, str]
    content: bytes = b""

    @property
    def is_web_page(self) -> bool:
        """Whether it is a proxy's word, and not the API's."""
        return self.content.lstrip()[:1] == b"<"

    def header(self, name: str) -> str:
        """Return a header as it may be shown, "" where there is none."""
        return short(str(self.headers.get(name) or ""))


def understood(reply: Reply, url: str, *, has_key: bool) -> Answer:
    """Return an HTTP answer as GraphQL. `url` is the API's, as it may be shown.

    Raise ApiUnreachableError where it is none or says "not now", CredentialError where it refuses the credentials,
    ApiRefusedError where it refuses the whole document, and TooLargeError where it is too large.
    """
    error = refusal_of_status(reply, url, has_key=has_key)
    if error is not None:
        raise error
    document = _as_graphql(reply, url)
    errors = _errors_of(document)
    if _is_about_the_key(document, errors):
        raise _key_refused(url, has_key=has_key)
    if any(_code_of(error) == _PASSING or _PASSING in _message_of(error) for error in errors):
        raise ApiUnreachableError(f"the API at {url} has a passing fault: {_message_of(errors[0])}")
    return _checked(document, errors)


def refusal(error: Mapping[str, Any]) -> ApiRefusedError:
    """Given one entry of a GraphQL answer's errors, return it as an ApiRefusedError."""
    return ApiRefusedError(f"the API refuses: {_message_of(error)}", code=_code_of(error))


def pause_asked_for(reply: Reply) -> float:
    """Return for how many seconds an answer asks to be left alone (Retry-After), 0 where it does not."""
    if reply.status not in (429, 503):
        return 0.0
    text = reply.header("Retry-After").strip()
    seconds = float(text) if text.isascii() and text.isdigit() and len(text) < 10 else _until(text, reply)
    return max(0.0, min(seconds, _MOST_PAUSE_SECONDS))


def time_of(text: str) -> datetime | None:
    """Return the time in a header (RFC 9110), None where it is none."""
    try:
        time = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return time if time.tzinfo is not None else None


def _until(text: str, reply: Reply) -> float:
    """Given a time by the clock of who answers, return the seconds until then: its Date says what its clock shows."""
    then, now = time_of(text), time_of(reply.header("Date"))
    return (then - now).total_seconds() if then is not None and now is not None else 0.0


def refusal_of_status(reply: Reply, url: str, *, has_key: bool) -> LocalAgentError | None:
    """Return what the status says by itself, None where the body has the word."""
    if reply.status == 401 and reply.header("WWW-Authenticate").lower().startswith("basic"):
        return CredentialError(
            f"{url} asks for a user and a password, or does not accept those that it got",
            hint="give them in the API's URL, in a file that nobody else reads: api = https://USER:PASSWORD@HOST",
        )
    if reply.status == 403 and unix_path(url):
        return _user_refused(reply, url)
    # a web page is a proxy's word and not the API's: it says nothing about the key
    if reply.status in (401, 403) and not reply.is_web_page:
        return _key_refused(url, has_key=has_key)
    if reply.status == 413:
        return TooLargeError(
            f"{url} takes no request as large as this (HTTP 413)",
            hint="let the proxy before the API take more, e.g. nginx's client_max_body_size",
        )
    if reply.status >= 500 or reply.status in (407, 429) or 300 <= reply.status < 400:
        return ApiUnreachableError(_what_came(reply, url), hint=_hint_for(reply))
    return None


def _what_came(reply: Reply, url: str) -> str:
    words = f"{url} answers HTTP {reply.status} with {_kind_of(reply)}"
    if 300 <= reply.status < 400 and reply.headers.get("Location"):
        return f"{words}, and redirects to {shown_url(str(reply.headers['Location']))}"
    pause = pause_asked_for(reply)
    return f"{words}, and asks to be left alone for {pause:.0f} s" if pause else words


def _hint_for(reply: Reply) -> str:
    if 300 <= reply.status < 400:
        return "redirects are not followed: set `api` to the URL that the Prefect API has there"
    if reply.status == 407:
        return "the proxy wants credentials: https_proxy=http://USER:PASSWORD@HOST"
    if reply.status in (502, 503, 504):
        return "a proxy before the API says that what is behind it does not answer"
    return "if this is not the Prefect API's URL, set `api`; if it is, its own log says more"


def _as_graphql(reply: Reply, url: str) -> Mapping[str, Any]:
    try:
        document = load_json(reply.content)
    except WrongFieldError:
        document = None
    if isinstance(document, dict) and ("data" in document or "errors" in document):
        return document
    kind = NotUnderstoodError if reply.status == 200 and not reply.is_web_page else ApiUnreachableError
    raise kind(_what_came(reply, url), hint=_hint_for(reply))


def _checked(document: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> Answer:
    data = document.get("data")
    if not isinstance(data, dict) or (errors and _is_nothing(data) and not any(map(_path_of, errors))):
        raise refusal(errors[0] if errors else {"message": "an answer without data"})
    return Answer(data, errors)


def _is_nothing(data: object) -> bool:
    return not isinstance(data, dict) or all(value is None for value in data.values())


def _errors_of(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    errors = document.get("errors")
    return [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []


def _path_of(error: Mapping[str, Any]) -> list[Any]:
    path = error.get("path")
    return path if isinstance(path, list) else []


def _code_of(error: Mapping[str, Any]) -> str:
    extensions = error.get("extensions")
    code = extensions.get("code") if isinstance(extensions, dict) else None
    return code if isinstance(code, str) else ""


def _message_of(error: Mapping[str, Any]) -> str:
    return short(str(error.get("message", error)), _MOST_MESSAGE)


def _is_about_the_key(document: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> bool:
    """Tell by the code: a message may quote anything, such as a flow's name. Where there is data, the key was good."""
    return _is_nothing(document.get("data")) and any(
        _code_of(error) == _UNAUTHENTICATED or _message_of(error) == _MALFORMED_KEY for error in errors
    )


def _key_refused(url: str, *, has_key: bool) -> CredentialError:
    if not has_key:
        return CredentialError(
            f"the API at {url} asks for an API key, and none is set",
            hint="give the agent one: a systemd credential named api-key, `api_key_file`, or LOCAL_AGENT_API_KEY",
        )
    return CredentialError(
        f"the API at {url} does not accept the API key",
        hint="check the key (`local-agent config` shows where it comes from) and its tenant",
    )


def _user_refused(reply: Reply, url: str) -> CredentialError:
    """Return what a server says that has asked the kernel who connects to its unix socket."""
    errors: Sequence[Mapping[str, Any]] = ()
    with contextlib.suppress(WrongFieldError):
        document = load_json(reply.content)
        errors = _errors_of(document) if isinstance(document, dict) else ()
    words = _message_of(errors[0]) if errors else "it may not use this socket"
    return CredentialError(
        f"the API at {url} refuses this agent's user: {words}",
        hint="`local-agent server --socket` takes root, its own user, and those of --allow-user and --allow-group",
    )


def _kind_of(reply: Reply) -> str:
    if reply.is_web_page:
        return "a web page, not GraphQL"
    kind = (reply.header("Content-Type") or "no content type").split(";")[0]
    return f"{len(reply.content)} bytes of {kind}, not GraphQL" if reply.content else "an empty body"
