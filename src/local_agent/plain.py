"""Text that strangers chose, made fit for where it goes: a terminal's line, a report to the API, a URL that is shown.

Whoever may register a flow, write to a flow run's output or answer in the API's place chooses text that this program
shows and sends on. Escape sequences steer a terminal, a lone surrogate cannot be written, and the API refuses a state
that is too large.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = "***"
MAX_NAME = 200
MAX_LAST_LINES = 10
MAX_LINE = 1000
MAX_TEXT = 20_000  # in JSON in JSON a character takes 14 bytes at most: a third of the 1 MB that the Server takes

_COLOURS = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]")
_UNSENDABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# up to the last @: a password may hold @, / and others that nobody has escaped
_IN_A_TEXT = re.compile(r"(?<=://)[^\s\"<>]*@")
_CUT = "..."
_UNIX = "unix://"


def printable(text: str) -> str:
    """Return the text as one line that steers no terminal: "?" for each character that is not to be seen."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


def printable_lines(text: str) -> str:
    """Return the text as lines of which each is `printable`."""
    return text if text.isprintable() else "\n".join(printable(line) for line in text.split("\n"))


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return JSON in which people can read names: only what steers a terminal or cannot be written is escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    if char.isprintable() or char == "\n":  # a new line within a text is escaped by now
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else json.dumps(char)[1:-1]


def short(text: str, most: int = MAX_NAME) -> str:
    """Return `printable` text of at most so many characters, and "..." where it was longer."""
    return printable(text if len(text) <= most else text[:most] + _CUT)


def sendable(text: str, most: int = MAX_TEXT) -> str:
    """Return text as the API takes it, lines and tabs kept, with at most `most` characters and "..." where it was cut.

    Without colours. What no JSON parser or database takes for sure (NUL, other control characters, lone surrogates) is
    replaced.
    """
    text = text[: 2 * most]  # nothing that comes later is kept, and colours need not be looked for in megabytes
    clean = _UNSENDABLE.sub("\N{REPLACEMENT CHARACTER}", _COLOURS.sub("", text.replace("\r\n", "\n")))
    return clean if len(clean) <= most else clean[:most] + _CUT


def last_words(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the last lines of a flow run's output as a report may hold them: ten, each bounded and `sendable`."""
    return tuple(sendable(line, MAX_LINE) for line in list(lines)[-MAX_LAST_LINES:])


def shown_url(url: str) -> str:
    """Return a URL as it may be shown: printable, and without its password. "***" where it cannot be read as one."""
    if unix_path(url):
        return short(url)  # an @ is part of its path
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK if "@" in url else short(url)
    if "@" not in parts.netloc or url.count("@") > 1:
        return short(without_credentials(url))
    user = parts.username or ""
    who = f"{user}:{MASK}" if parts.password is not None else MASK
    return short(parts._replace(netloc=f"{who}@{parts.netloc.rpartition('@')[2]}").geturl())


def unix_path(url: str) -> str:
    """Given a URL, return the path of the unix socket that it names, "" where it names none."""
    return url.removeprefix(_UNIX) if url.startswith(f"{_UNIX}/") else ""


def without_credentials(text: str) -> str:
    """Return text in which the user and password of every URL are masked."""
    return _IN_A_TEXT.sub(f"{MASK}@", text)
