"""A terminal in the mode in which each key is there at once, and a screen of its own."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENTER_SCREEN, _LEAVE_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"
_NAMES = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down", b"\x03": "q"}
_MAX_BYTES = 64


class Screen:
    """The terminal, for the length of `opened`."""

    def __init__(self, source: int, output: TextIO) -> None:
        self._source = source
        self._output = output

    def show(self, lines: list[str]) -> None:
        """Draw a whole screen, without flicker."""
        self._output.write(_HOME + "\n".join(f"{line}{_CLEAR_LINE}" for line in lines) + _CLEAR_REST)
        self._output.flush()

    def keys(self, timeout_seconds: float) -> list[str]:
        """Return the keys that were pressed within a time; at once when there is one. The end of input is a q."""
        ready, _, _ = select.select([self._source], [], [], timeout_seconds)
        return named_keys(os.read(self._source, _MAX_BYTES)) if ready else []


def named_keys(data: bytes) -> list[str]:
    """Given what a terminal sent, return the keys; arrows and such by name. Those unknown are left out."""
    if not data:
        return ["q"]
    keys = []
    while data:
        sequence = next((known for known in _NAMES if data.startswith(known)), data[:1])
        keys.append(_NAMES.get(sequence) or sequence.decode(errors="replace"))
        data = data[len(sequence) :]
    return [key for key in keys if key != "\x1b"]


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


@contextlib.contextmanager
def opened(source: int, output: TextIO) -> Iterator[Screen]:
    """Take the terminal, and give it back as it was: also when SIGTERM or a hangup ends this process."""
    before = termios.tcgetattr(source)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    tty.setraw(source, termios.TCSADRAIN)
    mode = termios.tcgetattr(source)
    mode[1] |= termios.OPOST  # a line's end is still one for the output
    termios.tcsetattr(source, termios.TCSADRAIN, mode)
    output.write(_ENTER_SCREEN)
    output.flush()
    try:
        yield Screen(source, output)
    finally:
        termios.tcsetattr(source, termios.TCSADRAIN, before)
        output.write(_LEAVE_SCREEN)
        output.flush()
