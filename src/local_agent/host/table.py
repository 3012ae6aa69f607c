"""The one column style of all commands: as wide as the terminal, plain when piped."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_GAP = 2
_CUT = "…"


class Colour(Enum):
    """What a piece of text means, as the number that a terminal knows (ECMA-48, SGR)."""

    PLAIN = ""
    BOLD = "1"
    FAINT = "2"
    BAD = "31"
    GOOD = "32"
    DOUBTFUL = "33"
    AGENT = "36"


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and what it means."""

    text: str
    colour: Colour = Colour.PLAIN


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, and what happens to it where there is little room.

    It shrinks down to `enough` characters where that is given. Then columns go one after another, the highest `goes`
    first; those with 0 stay. When none is left to go, it shrinks down to `least`.
    """

    title: str
    right: bool = False
    enough: int | None = None
    least: int | None = None
    goes: int = 0


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where text is shown: how many characters wide (None: any width will do), and whether in colours."""

    width: int | None = None
    colours: bool = False

    def coloured(self, text: str, colour: Colour) -> str:
        """Return the text as this terminal shows it."""
        return f"\x1b[{colour.value}m{text}\x1b[0m" if self.colours and colour.value else text


def terminal_of(stream: TextIO, environ: Mapping[str, str]) -> Terminal:
    """Given a stream, return what it can show: no colours when piped or with NO_COLOR (no-color.org)."""
    is_terminal = stream.isatty()
    colours = is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    columns = environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return Terminal(int(columns), colours)
    return Terminal(_columns_of(stream) if is_terminal else None, colours)


def _columns_of(stream: TextIO) -> int | None:
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:
        return None


def printable(text: str) -> str:
    """Return a text without what would steer a terminal: a flow run's name or output may hold anything."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char.isprintable():
        return char
    return f"\\x{ord(char):02x}" if ord(char) < 256 else "\N{REPLACEMENT CHARACTER}"


def render(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], terminal: Terminal) -> list[str]:
    """Return a table's lines, the titles first. No line is longer than the terminal is wide, if that can be."""
    texts = [[printable(cell.text) for cell in row] for row in rows]
    natural = [
        max([len(column.title), *(width_of(row[number]) for row in texts)]) for number, column in enumerate(columns)
    ]
    widths = _fitted(columns, natural, terminal.width)
    titles = [Cell(column.title, Colour.BOLD) for column in columns]
    return [_line(columns, widths, row, terminal) for row in [titles, *rows]]


def width_of(text: str) -> int:
    """Return how many columns a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def cut(text: str, width: int) -> str:
    """Return a text cut to a width, with a sign that it was."""
    if width_of(text) <= width:
        return text
    kept, room = "", width - 1
    for char in text:
        room -= _char_width(char)
        if room < 0:
            break
        kept += char
    return kept + _CUT


def _char_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):  # accents, and what only changes how its neighbours look
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _fitted(columns: Sequence[Column], natural: Sequence[int], width: int | None) -> list[int]:
    """Return each column's width, 0 for those that had to go."""
    if width is None:
        return list(natural)
    shown = set(range(len(columns)))
    enough = [min(have, column.enough or have) for column, have in zip(columns, natural, strict=True)]
    while _total(enough, shown) > width:
        going = [number for number in shown if columns[number].goes]
        if not going:
            break
        shown.remove(max(going, key=lambda number: columns[number].goes))
    widths = [have if number in shown else 0 for number, have in enumerate(natural)]
    least = [min(have, column.least or have) for column, have in zip(columns, enough, strict=True)]
    for bound in (enough, least):
        _shrink(widths, bound, shown, width)
    return widths


def _shrink(widths: list[int], bound: Sequence[int], shown: set[int], width: int) -> None:
    """Take from whichever column has most to give, until the table fits or nothing is left to take."""
    while _total(widths, shown) > width:
        wide = [number for number in shown if widths[number] > bound[number]]
        if not wide:
            return
        widths[max(wide, key=lambda number: widths[number] - bound[number])] -= 1


def _total(widths: Sequence[int], shown: set[int]) -> int:
    return sum(widths[number] for number in shown) + _GAP * (len(shown) - 1)


def _line(columns: Sequence[Column], widths: Sequence[int], row: Sequence[Cell], terminal: Terminal) -> str:
    cells = []
    last = max(number for number, width in enumerate(widths) if width)
    for number, (column, width, cell) in enumerate(zip(columns, widths, row, strict=True)):
        if width:
            text = cut(printable(cell.text), width)
            blanks = " " * (width - width_of(text))
            after = "" if number == last else blanks
            shown = terminal.coloured(text, cell.colour)
            cells.append(blanks + shown if column.right else shown + after)
    return (" " * _GAP).join(cells).rstrip()


def compact_bytes(count: int | None) -> str:
    """Say a number of bytes in at most six characters, as systemd-cgtop does: 345.6M; "-" for None."""
    if count is None:
        return "-"
    size = float(count)
    for unit in ("B", "K", "M", "G"):
        if size < 1023.95:
            return f"{size:.0f}{unit}" if unit == "B" else f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.1f}T"


def compact_seconds(seconds: float | None) -> str:
    """Say a time span in at most six characters, the larger two units of it: 5s, 12m, 3h05m, 2d04h; "-" for None."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days}d{hours % 24:02}h"
    if hours:
        return f"{hours}h{minutes % 60:02}m"
    return f"{minutes}m{whole % 60:02}s" if minutes else f"{whole}s"


def compact_cpu(seconds: float | None) -> str:
    """Say CPU time: tenths of a second up to a minute, then as any time span."""
    if seconds is None or seconds >= 60:
        return compact_seconds(seconds)
    return f"{seconds:.1f}s"
