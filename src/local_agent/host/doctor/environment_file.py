"""Files that EnvironmentFile= of a unit names, read as systemd reads them (systemd.exec(5))."""

from __future__ import annotations

import glob
import os
import re
import stat
from typing import TYPE_CHECKING

from local_agent.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAX_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPED_IN_QUOTES = '"\\`$'
_BLANKS = " \t\r"


def variables_of(files: Iterable[tuple[str, bool]]) -> dict[str, str]:
    """Given paths, which may be patterns, and whether each may be missing, return what they set; later ones win.

    Raise UnavailableError where one cannot be read.
    """
    variables: dict[str, str] = {}
    for pattern, may_be_missing in files:
        for path in sorted(glob.glob(pattern)) or ([] if may_be_missing else [pattern]):  # noqa: PTH207 - systemd's own
            variables |= parse(_text_of(path, may_be_missing=may_be_missing))
    return variables


def _text_of(path: str, *, may_be_missing: bool) -> str:
    """Links are followed, as systemd does; nothing is waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnavailableError(f"{path} is no regular file")
            return os.pread(descriptor, _MAX_BYTES, 0).decode(errors="replace")
        finally:
            os.close(descriptor)
    except OSError as error:
        if may_be_missing:
            return ""
        raise UnavailableError(f"{path} cannot be read: {error.strerror}", hint="run this as root") from error


def parse(text: str) -> dict[str, str]:
    """Given the text of such a file, return its variables."""
    variables = {}
    characters = iter(text)
    for character in characters:
        if character in "#;":
            _skip_line(characters)
        elif character not in _BLANKS + "\n":
            name, is_over = _name(character, characters)
            if not is_over:
                value = _value(characters)
                if _NAME.fullmatch(name):
                    variables[name] = value
    return variables


def _skip_line(characters: Iterator[str]) -> None:
    """What a backslash at the end of a comment means differs between 252 and 257: this is the later one's way."""
    for character in characters:
        if character == "\n":
            return


def _name(first: str, characters: Iterator[str]) -> tuple[str, bool]:
    """Return a name, and whether its line ended without a value."""
    name = first
    for character in characters:
        if character in "=\n":
            return name.rstrip(_BLANKS), character == "\n"
        name += character
    return name, True


def _value(characters: Iterator[str]) -> str:
    """Return a value up to the end of its line. Blanks around it do not count; quotes do at its beginning only."""
    value, kept, is_bare = "", 0, False
    for character in characters:
        if character == "\n":
            break
        if character in "'\"" and not is_bare:
            value += _quoted(character, characters)
        elif character == "\\":
            is_bare, following = True, next(characters, "")
            value += "" if following == "\n" else following
        elif is_bare or character not in _BLANKS:
            is_bare = True
            value += character
            if character in _BLANKS:
                continue
        kept = len(value)
    return value[:kept]


def _quoted(quote: str, characters: Iterator[str]) -> str:
    text = ""
    for character in characters:
        if character == quote:
            break
        if character == "\\" and quote == '"':
            following = next(characters, "")
            text += following if following in _ESCAPED_IN_QUOTES else "" if following == "\n" else f"\\{following}"
        else:
            text += character
    return text
