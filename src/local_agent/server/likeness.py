"""LIKE and ILIKE as PostgreSQL has them, which SQLite's LIKE is not: it ignores case, and knows no escape."""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=256)
def _pattern(pattern: str, flags: int) -> re.Pattern[str]:
    expression = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            expression.append(re.escape(next(characters, "\\")))
        elif character == "%":
            expression.append(".*")
        elif character == "_":
            expression.append(".")
        else:
            expression.append(re.escape(character))
    return re.compile("".join(expression), flags | re.DOTALL)


def like(value: object, pattern: object) -> int | None:
    """Say whether a text fits a pattern: % is any text, _ any character, backslash escapes. NULL stays NULL."""
    return _fits(value, pattern, 0)


def like_any_case(value: object, pattern: object) -> int | None:
    """The same, with upper and lower case alike."""
    return _fits(value, pattern, re.IGNORECASE)


def _fits(value: object, pattern: object, flags: int) -> int | None:
    if value is None or pattern is None:
        return None
    return int(_pattern(str(pattern), int(flags)).fullmatch(str(value)) is not None)
