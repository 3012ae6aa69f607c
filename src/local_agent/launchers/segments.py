"""What a flow run wrote, cut into pieces that can be shown as they come, each with the run's name before it.

A piece ends with a line feed or with a carriage return: progress bars draw with the latter and may never write a line
feed. A piece that gets too long is shown in parts, so what is kept is bounded, and each byte is looked at once.
"""

from __future__ import annotations

import re

_MAX_BYTES = 16 * 1024
_ENDS = re.compile(rb"(\r\n|\r|\n)")


class Segments:
    """The pieces of one run's output. On a terminal a bar is drawn in its place; elsewhere each piece is a line."""

    def __init__(self, prefix: bytes, *, is_terminal: bool) -> None:
        self._prefix = prefix
        self._is_terminal = is_terminal
        self._clear = b"\x1b[K" if is_terminal else b""
        self._rest = b""
        self._after_return = False  # whether the last piece ended with a carriage return
        self._gap_bytes = 0

    def shown(self, chunk: bytes) -> bytes:
        """Given what is new, return what to show of it. With nothing new, what of a bar still waits for its end."""
        if not chunk:
            return self.rest() if self._after_return else b""
        gap, data = self._gap(), self._rest + chunk
        if b"\r" in data or self._after_return:
            *pieces, self._rest = _ENDS.split(data)
            shown = b"".join(map(self._piece, pieces[::2], pieces[1::2]))
        else:
            *lines, self._rest = data.split(b"\n")
            shown = b"".join(map(self._line, lines))
        return gap + shown + (self.rest() if len(self._rest) > _MAX_BYTES else b"")

    def rest(self) -> bytes:
        """Return what has no end yet, to be shown as it is."""
        text, self._rest = self._rest, b""
        return self._gap() + (self._line(text, self._bar_end) if text else b"")

    def end(self) -> bytes:
        """Return what to show once nothing more comes. A bar stays where it is."""
        rest = self.rest()
        return rest + b"\n" if self._bar_end == b"\r" else rest

    def note_gap(self, count_bytes: int) -> None:
        """Have it said, in its place, that so much is not shown."""
        self._gap_bytes += count_bytes

    def _gap(self) -> bytes:
        if not self._gap_bytes:
            return b""
        text = b"[%d bytes are not shown: the console did not read]" % self._gap_bytes
        self._gap_bytes, self._rest = 0, b""
        return self._line(text)

    def _piece(self, text: bytes, end: bytes) -> bytes:
        is_second_half = self._after_return and end == b"\n" and not text  # of \r\n, cut by the end of a chunk
        self._after_return = end == b"\r"
        if is_second_half or (not text and self._after_return):
            return b""
        return self._line(text, self._bar_end)

    @property
    def _bar_end(self) -> bytes:
        return b"\r" if self._after_return and self._is_terminal else b"\n"

    def _line(self, text: bytes, end: bytes = b"\n") -> bytes:
        if len(text) > _MAX_BYTES:
            return self._line(text[:_MAX_BYTES]) + self._line(text[_MAX_BYTES:], end)
        shown = text if text.isascii() else text.decode(errors="replace").encode()
        return self._prefix + shown + self._clear + end
