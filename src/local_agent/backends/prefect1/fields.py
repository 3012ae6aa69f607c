"""Typed getters for JSON from the API: the path of a wrong field grows into the error, after them types are trusted."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_Value = TypeVar("_Value")


class WrongFieldError(ValueError):
    """A field of an answer is missing or not of its type; the message starts with its path."""


def get_str(obj: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """Return the string at `key`; `default`, where given, stands in for a missing one and for null."""
    return _get(obj, key, str, default)


def get_int(obj: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Return the integer at `key`."""
    return _get(obj, key, int, default)


def get_object(obj: Mapping[str, Any], key: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the object at `key`; a string that holds one, as Hasura gives some JSON columns, is read."""
    value = obj.get(key)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise WrongFieldError(f"{key}: not JSON") from error
    return _get({key: value}, key, dict, default)


def get_list(obj: Mapping[str, Any], key: str, parse: Callable[[Any], _Value]) -> tuple[_Value, ...]:
    """Return the list at `key`, each item parsed; a wrong item is named by its index."""
    return tuple(_parsed_items(key, _get(obj, key, list, None), parse))


def get_time(obj: Mapping[str, Any], key: str) -> datetime | None:
    """Return the time at `key` in UTC, or None where it is null or missing."""
    value = obj.get(key)
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
    except ValueError as error:
        raise WrongFieldError(f"{path}: {text[:60]!r} is no ISO 8601 time") from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _parsed_items(key: str, items: list[Any], parse: Callable[[Any], _Value]) -> Iterator[_Value]:
    for index, item in enumerate(items):
        try:
            yield parse(item)
        except WrongFieldError as error:
            raise WrongFieldError(f"{key}[{index}].{error}") from error
        except (TypeError, AttributeError) as error:
            raise WrongFieldError(f"{key}[{index}]: {type(item).__name__} where an object is due") from error


def _get(obj: Mapping[str, Any], key: str, kind: type[_Value], default: _Value | None) -> _Value:
    value = obj.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = "missing" if value is None else f"{type(value).__name__} where {kind.__name__} is due"
        raise WrongFieldError(f"{key}: {found}")
    return value
