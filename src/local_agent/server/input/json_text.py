"""JSON as clients send it: whatever a flow prints ends up in it, and what comes in must be able to go out again."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from local_agent.server.input.refusals import RefusedError

# SQLite reads JSON that is nested up to 1000 deep, and an answer wraps a value in a few levels more.
MAX_DEPTH = 256

# Each takes up to a hundred times its length in memory. 10,000 lines of a log, as no Prefect sends them at once, have
# 10,000 objects and 70,000 values.
MAX_CONTAINERS = 100_000
MAX_VALUES = 1_000_000

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

    Raise RefusedJsonError for what is no JSON (NaN, 1e999), and for what is nested deeper than MAX_DEPTH.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode()
        containers = decoded.count("[") + decoded.count("{")
        if containers > MAX_CONTAINERS or decoded.count(",") > MAX_VALUES:
            _check_size(_TEXT.sub("", decoded))
        value = _DECODER.decode(decoded)
    except RecursionError:
        raise RefusedJsonError(_too_deep(_path_in(decoded))) from None
    except RefusedJsonError:
        raise
    except ValueError as error:
        # Python's own words name the place; those on integers of 4300 digits and more do not matter to a client.
        raise RefusedJsonError(str(error).partition(";")[0]) from None
    # Fewer brackets than levels allowed: nothing to look for, as in nearly every request.
    if containers > MAX_DEPTH:
        check_depth(value)
    lowered = decoded.lower()
    return cleaned(value) if any(each in lowered for each in _SUSPICIOUS) else value


# A text as a whole. No repetition is ever tried in another way.
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*+"')


def _check_size(signs: str) -> None:
    # Without the texts: a flow may log as many brackets as it likes.
    if signs.count("[") + signs.count("{") > MAX_CONTAINERS:
        raise RefusedJsonError(f"it has more than {MAX_CONTAINERS} objects and lists")
    if signs.count(",") > MAX_VALUES:
        raise RefusedJsonError(f"it has more than {MAX_VALUES} values")


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
    """Raise RefusedJsonError, with the path, if a value is nested deeper than MAX_DEPTH.

    Level by level and not by recursion: Python 3.13 reads JSON that is far deeper than its own stack.
    """
    level: list[tuple[str, object]] = [("", value)]
    for _ in range(MAX_DEPTH):
        level = [inner for path, each in level for inner in _inside(path, each)]
        if not level:
            return
    raise RefusedJsonError(_too_deep(level[0][0]))


def _too_deep(path: str) -> str:
    return f"it is nested more than {MAX_DEPTH} deep at {shortened(path) or 'its beginning'}"


# Only what makes up a path. No repetition is ever tried in another way.
_SIGN = re.compile(r'"(?:[^"\\]|\\.)*+"(?:\s*+(?P<colon>:))?+|[\[\]{},]')


def _path_in(text: str) -> str:
    """Return where JSON that Python does not read becomes too deep."""
    steps: list[str | int] = []
    for sign in _SIGN.finditer(text):
        found = sign[0]
        if sign["colon"] and steps:
            steps[-1] = found[: found.rindex('"')].strip('"')
        elif found in "[{":
            steps.append(0 if found == "[" else "")
        elif found in "]}" and steps:
            steps.pop()
        elif found == "," and steps and isinstance(steps[-1], int):
            steps[-1] += 1
        if len(steps) > MAX_DEPTH:
            break
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps[:20]).lstrip(".")


def _inside(path: str, value: object) -> list[tuple[str, object]]:
    # A path is only lengthened where that is still of use: the front of it is what names the field.
    if isinstance(value, dict):
        return [
            (path if len(path) > _MAX_PATH else f"{path}.{str(name)[:_MAX_PATH]}" if path else str(name), each)
            for name, each in value.items()
            if isinstance(each, dict | list)
        ]
    if isinstance(value, list):
        return [
            (path if len(path) > _MAX_PATH else f"{path}[{number}]", each)
            for number, each in enumerate(value)
            if isinstance(each, dict | list)
        ]
    return []


_MAX_PATH = 100


def shortened(text: str) -> str:
    """Return a text that comes from a client as an error shows it."""
    return text if len(text) <= _MAX_PATH else f"{text[:_MAX_PATH]}..."


def cleaned(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Given a JSON value, return it without the half characters and NULs that SQLite cannot keep."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, list):
        return [cleaned(each) for each in value]
    if isinstance(value, dict):
        return {cleaned(name): cleaned(each) for name, each in value.items()}
    return value
