"""Where a Prefect API is, and what it takes to be let in."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from local_agent.backends.fields import WrongFieldError, load_json
from local_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOT_TO_BE_SET = frozenset({"authorization", "content-length", "content-type", "host", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Access:
    """An API's URL, which ends in /api or is a workspace of Cloud, and what its requests carry.

    `verify` is what requests calls so: False, or the path of a file of CAs; None is what the environment says.
    """

    url: str
    api_key: str = field(default="", repr=False)
    auth_string: str = field(default="", repr=False)  # USER:PASSWORD
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # a proxy's credentials may be in them
    verify: str | bool | None = None
    timeout_seconds: float = 15.0

    @property
    def authorization(self) -> str:
        """The Authorization header, "" where nothing is asked for: an auth string wins over a key, as in Prefect."""
        if self.auth_string:
            return f"Basic {base64.b64encode(self.auth_string.encode(errors='surrogateescape')).decode()}"
        return f"Bearer {self.api_key}" if self.api_key else ""


def headers_of(text: str) -> dict[str, str]:
    """Given PREFECT_CLIENT_CUSTOM_HEADERS, a JSON object of texts, return it. Raise ConfigError where it is none."""
    try:
        headers = load_json(text or "{}")
    except WrongFieldError as error:
        raise _wrong_headers("it is not JSON") from error
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise _wrong_headers("it is not an object of texts")
    if any(not _is_plain(name) or not _is_plain(value) for name, value in headers.items()):
        raise _wrong_headers("a header holds what no header can")
    return {name: value for name, value in headers.items() if name.lower() not in _NOT_TO_BE_SET}


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _wrong_headers(reason: str) -> ConfigError:
    return ConfigError(
        f"PREFECT_CLIENT_CUSTOM_HEADERS cannot be used: {reason}",
        hint='write an object of texts: {"X-Team": "data"}',
    )
