"""How PostgreSQL compares jsonb, which is how Hasura filters by it: SQLite only knows JSON as text.

Given a column's text and what it is compared with (JSON text too), each function returns 1, 0 or, for a column that
is NULL, None. Numbers are equal by their value (1 and 1.0), objects whatever the order of their keys.
"""

from __future__ import annotations

import json
from decimal import Decimal
from functools import lru_cache
from typing import Any

from local_agent.server.input.refusals import RefusedError


def _parse(text: str) -> Any:  # noqa: ANN401 - any JSON value
    return json.loads(text, parse_float=Decimal)


# The one side is the same for every row.
_parse_given = lru_cache(maxsize=16)(_parse)


def equals(stored: str | None, given: str) -> int | None:
    """Say whether two values are equal."""
    if stored is None:
        return None
    return int(stored == given or _Comparison().equal(_parse(stored), _given(given)))


def contains(stored: str | None, given: str) -> int | None:
    """Say whether a value contains another, as jsonb's @> does: objects key by key, lists whatever their order."""
    return None if stored is None else int(_Comparison().contains_at_top(_parse(stored), _given(given)))


def contained(stored: str | None, given: str) -> int | None:
    """Say whether a value is contained in another: the other way round, jsonb's <@."""
    return None if stored is None else int(_Comparison().contains_at_top(_given(given), _parse(stored)))


def has_key(stored: str | None, given: str) -> int | None:
    """Say whether a text (as JSON) is a key of an object, a member of a list, or the value itself."""
    if stored is None:
        return None
    value, key = _parse(stored), _given(given)
    return int(key in value if isinstance(value, dict | list) else value == key)


def _given(text: str) -> Any:  # noqa: ANN401 - any JSON value
    return _parse_given(text) if len(text) < _MAX_KEPT else _parse(text)


_MAX_KEPT = 4096

# Lists of objects are compared each with each; what takes longer than about 50 ms is refused.
_MAX_COMPARED = 100_000


class _Comparison:
    """One comparison, with what it may still cost."""

    def __init__(self) -> None:
        self._left = _MAX_COMPARED

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise RefusedError("too much to compare")

    def equal(self, one: object, other: object) -> bool:
        self._spend()
        if isinstance(one, dict):
            same = isinstance(other, dict) and one.keys() == other.keys()
            return same and all(self.equal(one[name], other[name]) for name in one)  # type: ignore[index]
        if isinstance(one, list):
            return isinstance(other, list) and len(one) == len(other) and all(map(self.equal, one, other))
        # To Python true is 1.
        return isinstance(one, bool) is isinstance(other, bool) and one == other

    def contains_at_top(self, whole: object, part: object) -> bool:
        # PostgreSQL's one exception: a list may contain a primitive value by itself.
        if isinstance(whole, list) and not isinstance(part, dict | list):
            return _key(part) in _plain(whole)
        return self.contains(whole, part)

    def contains(self, whole: object, part: object) -> bool:
        self._spend()
        if isinstance(part, dict):
            return isinstance(whole, dict) and all(
                name in whole and self.contains(whole[name], each) for name, each in part.items()
            )
        if isinstance(part, list):
            return isinstance(whole, list) and self._contains_all(whole, part)
        return self.equal(whole, part)

    def _contains_all(self, whole: list[Any], part: list[Any]) -> bool:
        plain = _plain(whole)
        nested = [each for each in whole if isinstance(each, dict | list)]
        return all(
            any(self.contains(member, each) for member in nested)
            if isinstance(each, dict | list)
            else _key(each) in plain
            for each in part
        )


def _plain(values: list[Any]) -> set[tuple[bool, object]]:
    return {_key(each) for each in values if not isinstance(each, dict | list)}


def _key(value: object) -> tuple[bool, object]:
    return isinstance(value, bool), value
