"""JSON values taken apart with their paths: what is not of its type is refused at the entrance, by name.

Each function is given a value and where it stands (`tasks[3].retry_delay`), returns the value, and raises
RefusedError("tasks[3].retry_delay must be ..., not ...").
"""

from __future__ import annotations

import re
import uuid
from typing import Any

from local_agent.server.input.json_text import shortened
from local_agent.server.input.refusals import RefusedError

# More in one request would hold up all others for longer than a moment; Prefect sends 500 at once.
MAX_ITEMS = 10_000

# As PostgreSQL reads one: in braces or not, with hyphens or not, and no digits of other scripts.
_UUID = re.compile(r"(?:urn:uuid:)?\{?[0-9A-Fa-f-]{32,40}\}?")

_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1

_NAMES = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}


def _refusal(value: object, path: str, wanted: str) -> RefusedError:
    found = _NAMES.get(type(value)) or shortened(repr(value))
    return RefusedError(f"{path} must be {wanted}, not {found}")


def mapping(value: object, path: str) -> dict[str, Any]:
    """Return an object."""
    if not isinstance(value, dict):
        raise _refusal(value, path, "an object")
    return value


def mapping_or_none(value: object, path: str) -> dict[str, Any] | None:
    """Return an object, or None for null."""
    return None if value is None else mapping(value, path)


def items(value: object, path: str, most: int = MAX_ITEMS) -> list[Any]:
    """Return a list of at most so many items; null is an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise _refusal(value, path, "a list")
    if len(value) > most:
        raise RefusedError(f"{path} has {len(value)} items; at most {most} are taken at once")
    return value


def mappings(value: object, path: str) -> list[dict[str, Any]]:
    """Return a list of objects; null is an empty one."""
    return [mapping(each, f"{path}[{number}]") for number, each in enumerate(items(value, path))]


def texts(value: object, path: str) -> list[str]:
    """Return a list of texts; null is an empty one."""
    return [text(each, f"{path}[{number}]") for number, each in enumerate(items(value, path))]


def text(value: object, path: str) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise _refusal(value, path, "a text") if value != "" else RefusedError(f"{path} must not be empty")
    return value


def text_or_none(value: object, path: str) -> str | None:
    """Return a text, or None for null."""
    if value is not None and not isinstance(value, str):
        raise _refusal(value, path, "a text")
    return value


def whole(value: object, path: str) -> int:
    """Return a whole number of at most 64 bits; null is 0."""
    if value is None:
        return 0
    # As pydantic on the real Server: 3.0 is a whole number.
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(number, bool) or not isinstance(number, int) or not _MIN_INT <= number <= _MAX_INT:
        raise _refusal(value, path, "a whole number of 64 bits")
    return number


def flag(value: object, path: str) -> bool:
    """Return a boolean; null is False."""
    if value is not None and not isinstance(value, bool):
        raise _refusal(value, path, "a boolean")
    return bool(value)


def uuid_text(value: object) -> str:
    """Return a UUID as it is kept, in lower case with hyphens. Raise ValueError for what is none."""
    if not isinstance(value, str) or _UUID.fullmatch(value) is None:
        raise ValueError("no UUID")
    return str(uuid.UUID(value))
