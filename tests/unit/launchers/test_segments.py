"""What a flow run wrote, cut into pieces that are shown as they come."""

from __future__ import annotations

import time

import pytest

from local_agent.launchers.segments import Segments


def _shown(chunks: list[bytes], *, is_terminal: bool = False) -> bytes:
    segments = Segments(b"> ", is_terminal=is_terminal)
    return b"".join(segments.shown(chunk) for chunk in chunks) + segments.end()


@pytest.mark.parametrize(
    ("chunks", "shown"),
    [
        ([b"one\ntwo\n"], b"> one\n> two\n"),
        ([b"on", b"e\n"], b"> one\n"),
        ([b"one\n\ntwo\n"], b"> one\n> \n> two\n"),
        ([b"one\r\ntwo\r\n"], b"> one\n> two\n"),
        ([b"one\r", b"\ntwo\r", b"\n"], b"> one\n> two\n"),
        ([b"\r 1%\r 2%"], b">  1%\n>  2%\n"),
        ([b"\r 1%", b"", b"\r 2%\n"], b">  1%\n>  2%\n"),
        ([b"\r\r\r"], b""),
        ([b"no end"], b"> no end\n"),
        ([b"\xff\n"], b"> \xef\xbf\xbd\n"),
    ],
)
def test_pieces_end_with_either(chunks: list[bytes], shown: bytes) -> None:
    assert _shown(chunks) == shown


def test_on_a_terminal_a_bar_is_drawn_in_its_place_and_stays_at_its_end() -> None:
    assert _shown([b"\r 1%\r 2%"], is_terminal=True) == b">  1%\x1b[K\r>  2%\x1b[K\r\n"


def test_a_line_without_an_end_is_shown_in_parts() -> None:
    segments = Segments(b"> ", is_terminal=False)
    shown = b"".join(segments.shown(b"x" * 60_000) for _ in range(100))
    assert shown.count(b"x") > 5_900_000
    assert max(len(line) for line in shown.splitlines()) < 20_000


@pytest.mark.parametrize("unit", [b"\r 10% |###    |", b"\r", b"x", b"\n", b"\r\n"])
def test_four_times_as_much_takes_some_four_times_as_long(unit: bytes) -> None:
    def seconds(size: int) -> float:
        data = unit * (size // len(unit))
        began = time.process_time()
        segments = Segments(b"> ", is_terminal=False)
        for start in range(0, len(data), 16384):
            segments.shown(data[start : start + 16384])
        return time.process_time() - began

    small = min(seconds(1 << 17) for _ in range(3))
    assert seconds(1 << 19) < 10 * max(small, 0.02)
