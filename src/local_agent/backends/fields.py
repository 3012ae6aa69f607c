"""Typed getters for JSON from the API: the path of a wrong field grows into the error, after them types are trusted."""

from __future__ import annotations

import contextlib
import json
import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from local_agent.plain import short
from local_agent.units.names import is_nobodys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_Value = TypeVar("_Value")

# far from Python's own limit, so that what was read can be written again from any depth of calls
_MAX_DEPTH = 100
_MAX_VALUES = 500_000  # of a page that was asked for: a run's has some hundred. 24 MiB of "{}," take 1.7 GB
_MAX_INT = 2**53  # what every JSON parser keeps
_FIRST_YEAR, _LAST_YEAR = 1970, 9000  # spans can be added to it, and it can be told in any zone
_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


class WrongFieldError(ValueError):
    """A field of an answer is missing or not of its type; the message starts with its path."""


def load_json(text: str | bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return the JSON in a text. Raise WrongFieldError where it is none that can be written again as it is.

    NaN and numbers beyond all bounds are no JSON. What is nested deeper than any state is refused, and so is what has
    more values than any page: to take it apart would hold up everything else, and take a hundred times its memory.
    """
    if _has_more_values(text, _MAX_VALUES):
        raise WrongFieldError(f"more than {_MAX_VALUES} values")
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise WrongFieldError("not JSON") from error
    if _is_deeper(value, _MAX_DEPTH):
        raise WrongFieldError(f"nested deeper than {_MAX_DEPTH} levels")
    return value


def _has_more_values(text: str | bytes, most: int) -> bool:
    """Tell whether a JSON text may hold more values than so many; commas within texts count, too."""
    if len(text) <= most:
        return False
    raw = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    return sum(map(raw.count, (b",", b"[", b"{"))) > most


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _is_deeper(value: Any, most: int) -> bool:  # noqa: ANN401 - any JSON
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(most):
        level = [
            item
            for one in level
            for item in (one.values() if isinstance(one, dict) else one)
            if isinstance(item, (dict, list))
        ]
    return bool(level)


def get_id(obj: Mapping[str, Any], key: str) -> str:
    """Return the id at `key`: a UUID, as the API writes it. Ids become paths, unit names, headers and variables."""
    return parse_id(_get(obj, key, str, None), key)


def parse_id(value: object, path: str) -> str:
    """Given what an API calls an id, return it. Raise WrongFieldError where it is no UUID, or one that means nobody."""
    if not isinstance(value, str) or not _ID.fullmatch(value) or is_nobodys(value):
        raise WrongFieldError(f"{path}: {short(str(value), 60)!r} is no UUID")
    return value


def get_str(obj: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """Return the string at `key`; `default`, where given, stands in for a missing one and for null."""
    return _get(obj, key, str, default)


def get_int(obj: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Return the integer at `key`, where it is one that every JSON parser keeps."""
    number = _get(obj, key, int, default)
    if abs(number) > _MAX_INT:
        raise WrongFieldError(f"{key}: out of bounds")
    return number


def get_object(obj: Mapping[str, Any], key: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the object at `key`; a string that holds one, as Hasura gives some JSON columns, is read."""
    value = _at(obj, key)
    if isinstance(value, str):
        try:
            value = load_json(value)
        except WrongFieldError as error:
            raise WrongFieldError(f"{key}: {error}") from error
    return _get({key: value}, key, dict, default)


def get_list(
    obj: Mapping[str, Any], key: str, parse: Callable[[Any], _Value], most: int | None = None
) -> tuple[_Value, ...]:
    """Return the list at `key`, its first `most` items, each parsed; a wrong item is named by its index."""
    return tuple(_parsed_items(key, _get(obj, key, list, None)[:most], parse))


def get_time(obj: Mapping[str, Any], key: str) -> datetime | None:
    """Return the time at `key` in UTC, or None where it is null or missing."""
    value = _at(obj, key)
    if value is None:
        return None
    return parse_time(_get(obj, key, str, None), key)


@contextlib.contextmanager
def within(path: str) -> Iterator[None]:
    """Put `path` before the path of a field that turns out wrong in the context."""
    try:
        yield
    except WrongFieldError as error:
        raise WrongFieldError(f"{path}.{error}") from error


def parse_time(text: str, path: str) -> datetime:
    """Given an ISO 8601 time, with or without a zone (then UTC), return it in UTC."""
    try:
        time = datetime.fromisoformat(text)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise WrongFieldError(f"{path}: {short(text, 60)!r} is no ISO 8601 time") from error
    if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        raise WrongFieldError(f"{path}: {time.isoformat()} is out of bounds")
    return time


def _parsed_items(key: str, items: list[Any], parse: Callable[[Any], _Value]) -> Iterator[_Value]:
    for index, item in enumerate(items):
        try:
            yield parse(item)
        except WrongFieldError as error:
            raise WrongFieldError(f"{key}[{index}].{error}") from error
        except (TypeError, AttributeError) as error:
            raise WrongFieldError(f"{key}[{index}]: {type(item).__name__} where an object is due") from error


def _at(obj: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401 - any JSON
    """Return what is at `key`, None where there is nothing; whoever answered chose what `obj` really is."""
    if not isinstance(obj, dict):
        raise WrongFieldError(f"{key}: {type(obj).__name__} where an object is due")
    return obj.get(key)


def _get(obj: Mapping[str, Any], key: str, kind: type[_Value], default: _Value | None) -> _Value:
    value = _at(obj, key)
    if value is None and default is not None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = "missing" if value is None else f"{type(value).__name__} where {kind.__name__} is due"
        raise WrongFieldError(f"{key}: {found}")
    return value
