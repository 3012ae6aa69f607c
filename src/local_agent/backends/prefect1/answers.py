"""What an answer of the API means: GraphQL, a refusal, or the word of something else that stands before it.

Whatever comes is one of these; nothing that an API or a proxy may answer raises anything but our own errors.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local_agent.backends.fields import WrongFieldError, load_json
from local_agent.backends.replies import hint_for, key_refused, refusal_of_status, what_came
from local_agent.errors import (
    ApiRefusedError,
    ApiUnreachableError,
    CredentialError,
    NotUnderstoodError,
)
from local_agent.plain import short, unix_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local_agent.backends.replies import Reply
    from local_agent.errors import LocalAgentError

_UNAUTHENTICATED = "UNAUTHENTICATED"
_MALFORMED_KEY = "Malformed Authorization header"  # Cloud's own, which comes without a code
_PASSING = "API_ERROR"  # Cloud's word for "try again" (prefect 1.4.1, client.py)
_MAX_MESSAGE = 500
_WANTED = "GraphQL"


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


def understood(reply: Reply, url: str, *, has_key: bool) -> Answer:
    """Return an HTTP answer as GraphQL. `url` is the API's, as it may be shown.

    Raise ApiUnreachableError where it is none or says "not now", CredentialError where it refuses the credentials,
    ApiRefusedError where it refuses the whole document, and TooLargeError where it is too large.
    """
    error = refused(reply, url, has_key=has_key)
    if error is not None:
        raise error
    document = _as_graphql(reply, url)
    errors = _errors_of(document)
    if _is_about_the_key(document, errors):
        raise key_refused(url, has_key=has_key)
    if any(_code_of(error) == _PASSING or _PASSING in _message_of(error) for error in errors):
        raise ApiUnreachableError(f"the API at {url} has a passing fault: {_message_of(errors[0])}")
    return _checked(document, errors)


def refusal(error: Mapping[str, Any]) -> ApiRefusedError:
    """Given one entry of a GraphQL answer's errors, return it as an ApiRefusedError."""
    return ApiRefusedError(f"the API refuses: {_message_of(error)}", code=_code_of(error))


def refused(reply: Reply, url: str, *, has_key: bool) -> LocalAgentError | None:
    """Return what the status says by itself, None where the body has the word."""
    if reply.status == 403 and unix_path(url):
        return _user_refused(reply, url)
    return refusal_of_status(reply, url, _WANTED, has_key=has_key)


def _as_graphql(reply: Reply, url: str) -> Mapping[str, Any]:
    try:
        document = load_json(reply.content)
    except WrongFieldError:
        document = None
    if isinstance(document, dict) and ("data" in document or "errors" in document):
        return document
    kind = NotUnderstoodError if reply.status == 200 and not reply.is_web_page else ApiUnreachableError
    raise kind(what_came(reply, url, _WANTED), hint=hint_for(reply))


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
    return short(str(error.get("message", error)), _MAX_MESSAGE)


def _is_about_the_key(document: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> bool:
    """Tell by the code: a message may quote anything, such as a flow's name. Where there is data, the key was good."""
    return _is_nothing(document.get("data")) and any(
        _code_of(error) == _UNAUTHENTICATED or _message_of(error) == _MALFORMED_KEY for error in errors
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
