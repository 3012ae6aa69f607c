"""What an HTTP answer says before anybody reads its body as the API's: its status, its headers, who sent it."""

from __future__ import annotations

import email.utils
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_agent.errors import ApiUnreachableError, CredentialError, TooLargeError
from local_agent.plain import short, shown_url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from local_agent.errors import LocalAgentError

_MAX_PAUSE_SECONDS = 300.0  # whoever asks for a longer one is asked again


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


def refusal_of_status(reply: Reply, url: str, wanted: str, *, has_key: bool) -> LocalAgentError | None:
    """Return what the status says by itself, None where the body has the word.

    `url` is the API's, as it may be shown; `wanted` is what its answers are: GraphQL, JSON.
    """
    if reply.status == 401 and reply.header("WWW-Authenticate").lower().startswith("basic"):
        return CredentialError(
            f"{url} asks for a user and a password, or does not accept those that it got",
            hint="give them in the API's URL, in a file that nobody else reads: api = https://USER:PASSWORD@HOST",
        )
    # a web page is a proxy's word and not the API's: it says nothing about the key
    if reply.status in (401, 403) and not reply.is_web_page:
        return key_refused(url, has_key=has_key)
    if reply.status == 413:
        return TooLargeError(
            f"{url} takes no request as large as this (HTTP 413)",
            hint="let the proxy before the API take more, e.g. nginx's client_max_body_size",
        )
    if reply.status >= 500 or reply.status in (407, 429) or 300 <= reply.status < 400:
        return ApiUnreachableError(what_came(reply, url, wanted), hint=hint_for(reply))
    return None


def key_refused(url: str, *, has_key: bool) -> CredentialError:
    """Return what is raised where an API does not accept the key, or asks for one and there is none."""
    if not has_key:
        return CredentialError(
            f"the API at {url} asks for an API key, and none is set",
            hint="give the agent one: a systemd credential named api-key, `api_key_file`, or LOCAL_AGENT_API_KEY",
        )
    return CredentialError(
        f"the API at {url} does not accept the API key",
        hint="check the key (`local-agent config` shows where it comes from) and its tenant",
    )


def what_came(reply: Reply, url: str, wanted: str) -> str:
    """Return a sentence about an answer that is not what was wanted."""
    words = f"{url} answers HTTP {reply.status} with {_kind_of(reply, wanted)}"
    if 300 <= reply.status < 400 and reply.headers.get("Location"):
        return f"{words}, and redirects to {shown_url(str(reply.headers['Location']))}"
    pause = pause_asked_for(reply)
    return f"{words}, and asks to be left alone for {pause:.0f} s" if pause else words


def hint_for(reply: Reply) -> str:
    """Return what to do about an answer that is not what was wanted."""
    if 300 <= reply.status < 400:
        return "redirects are not followed: set `api` to the URL that the Prefect API has there"
    if reply.status == 407:
        return "the proxy wants credentials: https_proxy=http://USER:PASSWORD@HOST"
    if reply.status in (502, 503, 504):
        return "a proxy before the API says that what is behind it does not answer"
    return "if this is not the Prefect API's URL, set `api`; if it is, its own log says more"


def pause_asked_for(reply: Reply) -> float:
    """Return for how many seconds an answer asks to be left alone (Retry-After), 0 where it does not."""
    if reply.status not in (429, 503):
        return 0.0
    text = reply.header("Retry-After").strip()
    seconds = float(text) if text.isascii() and text.isdigit() and len(text) < 10 else _until(text, reply)
    return max(0.0, min(seconds, _MAX_PAUSE_SECONDS))


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


def _kind_of(reply: Reply, wanted: str) -> str:
    if reply.is_web_page:
        return f"a web page, not {wanted}"
    kind = (reply.header("Content-Type") or "no content type").split(";")[0]
    return f"{len(reply.content)} bytes of {kind}, not {wanted}" if reply.content else "an empty body"
