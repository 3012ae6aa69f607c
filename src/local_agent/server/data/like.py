"""LIKE and ILIKE as PostgreSQL has them, which SQLite's LIKE is not: it ignores case, and knows no escape.

Nothing is tried twice: the pieces between two % are looked for from left to right, and the first place of each is
taken. So the time grows with the value's length times the pattern's, never with its power.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from local_agent.server.input.refusals import RefusedError

# A longer pattern is refused: it bounds the time of a comparison with a value of a megabyte.
MAX_PATTERN = 128


@dataclass(frozen=True)
class _Piece:
    """What stands between two %: so many characters, as an expression without repetitions."""

    length: int
    expression: re.Pattern[str]

    def is_at(self, text: str, position: int) -> bool:
        return self.expression.match(text, position) is not None

    def end_of_first(self, text: str, start: int, end: int) -> int:
        """Return where its first place between two positions ends, or -1."""
        found = self.expression.search(text, start, end)
        return -1 if found is None else found.end()


@lru_cache(maxsize=256)
def _pieces(pattern: str) -> tuple[_Piece, ...]:
    expressions, lengths = [""], [0]
    characters = iter(pattern)
    for character in characters:
        if character == "%":
            expressions.append("")
            lengths.append(0)
            continue
        plain = next(characters, "\\") if character == "\\" else character
        expressions[-1] += "." if character == "_" else re.escape(plain)
        lengths[-1] += 1
    return tuple(_Piece(length, re.compile(each, re.DOTALL)) for length, each in zip(lengths, expressions, strict=True))


def check(pattern: str) -> str:
    """Return a pattern. Raise RefusedError for one that is too long."""
    if len(pattern) > MAX_PATTERN:
        raise RefusedError(f"A pattern of _like has at most {MAX_PATTERN} characters, not {len(pattern)}")
    return pattern


def like(value: object, pattern: object) -> int | None:
    """Say whether a text fits a pattern: % is any text, _ any character, backslash escapes. NULL stays NULL."""
    if value is None or pattern is None:
        return None
    return int(_fits(str(value), _pieces(str(pattern))))


def like_any_case(value: object, pattern: object) -> int | None:
    """The same, with upper and lower case alike."""
    if value is None or pattern is None:
        return None
    return int(_fits(str(value).lower(), _pieces(str(pattern).lower())))


def _fits(text: str, pieces: tuple[_Piece, ...]) -> bool:
    first, *middle = pieces
    if not middle:
        return len(text) == first.length and first.is_at(text, 0)
    last = middle.pop()
    end = len(text) - last.length
    if end < first.length or not first.is_at(text, 0) or not last.is_at(text, end):
        return False
    position = first.length
    for piece in middle:
        position = piece.end_of_first(text, position, end)
        if position < 0:
            return False
    return True
