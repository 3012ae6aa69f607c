"""JSON as clients send it: whatever a flow prints ends up in it, and what comes in must be able to go out again."""

from __future__ import annotations

import json
import math
from typing import Any

from local_agent.server.refusals import RefusedError

# SQLite reads JSON that is nested up to 1000 deep, and an answer wraps a value in a few levels more.
MOST_DEPTH = 256

# How JSON writes half characters (a file name that is no UTF-8 becomes one) and NULs.
_SUSPICIOUS = ("\\ud", "\\u0000")


# Made once: json.dumps makes one at each call with options.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class JsonText(str):
    """A JSON value that is encoded already."""

    __slots__ = ()


def to_json(value: object) -> JsonText:
    """Given a JSON value, return its text. Raise RefusedError for what JSON does not have (NaN, infinity)."""
    try:
        return JsonText(_encode(value))
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"This is not JSON: {error}") from None


class RefusedJsonError(ValueError):
    """JSON that cannot be kept, or what is no JSON. Its text says what is wrong, and where."""


def parse(text: str | bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Given JSON, return its value, with half characters and NULs, which SQLite cannot keep, replaced.

    Raise RefusedJsonError for what is no JSON (NaN, 1e999), and for what is nested deeper than MOST_DEPTH.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode()
        value = _DECODER.decode(decoded)
    except RecursionError:
        raise RefusedJsonError(f"it is nested more than {MOST_DEPTH} deep") from None
    except RefusedJsonError:
        raise
    except ValueError as error:
        # Python's own words name the place; those on integers of 4300 digits and more do not matter to a client.
        raise RefusedJsonError(str(error).partition(";")[0]) from None
    # Fewer brackets than levels allowed: nothing to look for, as in nearly every request.
    if decoded.count("[") + decoded.count("{") > MOST_DEPTH:
        check_depth(value)
    lowered = decoded.lower()
    return cleaned(value) if any(each in lowered for each in _SUSPICIOUS) else value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise RefusedJsonError(f"the number {text[:20]} is too large")
    return value


def _refused(text: str) -> float:
    raise RefusedJsonError(f"{text} is no JSON value")


# Made once: json.loads makes one at each call with options.
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refused)


def check_depth(value: object) -> None:
    """Raise RefusedJsonError, with the path, if a value is nested deeper than MOST_DEPTH.

    Level by level and not by recursion: Python 3.13 reads JSON that is far deeper than its own stack.
    """
    level: list[tuple[str, object]] = [("", value)]
    for _ in range(MOST_DEPTH):
        level = [inner for path, each in level for inner in _inside(path, each)]
        if not level:
            return
    path = level[0][0]
    raise RefusedJsonError(f"it is nested more than {MOST_DEPTH} deep at {shortened(path)}")


def _inside(path: str, value: object) -> list[tuple[str, object]]:
    # A path is only lengthened where that is still of use: the front of it is what names the field.
    if isinstance(value, dict):
        return [
            (path if len(path) > _MOST_PATH else f"{path}.{str(name)[:_MOST_PATH]}" if path else str(name), each)
            for name, each in value.items()
            if isinstance(each, dict | list)
        ]
    if isinstance(value, list):
        return [
            (path if len(path) > _MOST_PATH else f"{path}[{number}]", each)
            for number, each in enumerate(value)
            if isinstance(each, dict | list)
        ]
    return []


_MOST_PATH = 100


def shortened(text: str) -> str:
    """Return a text that comes from a client as an error shows it."""
    return text if len(text) <= _MOST_PATH else f"{text[:_MOST_PATH]}..."


def cleaned(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Given a JSON value, return it without the half characters and NULs that SQLite cannot keep."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, list):
        return [cleaned(each) for each in value]
    if isinstance(value, dict):
        return {cleaned(name): cleaned(each) for name, each in value.items()}
    return value
