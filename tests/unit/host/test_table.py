"""The column style: as wide as the terminal, plain when piped."""

from __future__ import annotations

import io

from local_agent.host.table import (
    Cell,
    Colour,
    Column,
    Terminal,
    compact_bytes,
    compact_cpu,
    compact_seconds,
    cut,
    printable,
    render,
    terminal_of,
    width_of,
)

_COLUMNS = (
    Column("ID"),
    Column("FLOW", enough=10, least=6),
    Column("CPU", right=True),
    Column("PEAK", right=True, goes=1),
    Column("TASKS", right=True, goes=2),
)
_ROWS = [
    [Cell("0a1b2c3d"), Cell("nightly load of everything"), Cell("1.5s", Colour.BAD), Cell("10.0M"), Cell("12")],
    [Cell("11111111"), Cell("x"), Cell("12m03s"), Cell("-"), Cell("-")],
]


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_are_aligned() -> None:
    assert render(_COLUMNS, _ROWS, Terminal()) == [
        "ID        FLOW                           CPU   PEAK  TASKS",
        "0a1b2c3d  nightly load of everything    1.5s  10.0M     12",
        "11111111  x                           12m03s      -      -",
    ]


def test_no_line_is_too_long() -> None:
    for width in range(30, 61):
        assert max(map(width_of, render(_COLUMNS, _ROWS, Terminal(width)))) <= width


def test_texts_shrink_before_columns_go() -> None:
    assert render(_COLUMNS, _ROWS, Terminal(45))[1] == "0a1b2c3d  nightly load…    1.5s  10.0M     12"
    assert render(_COLUMNS, _ROWS, Terminal(37))[0].split() == ["ID", "FLOW", "CPU", "PEAK"]
    assert render(_COLUMNS, _ROWS, Terminal(30))[0].split() == ["ID", "FLOW", "CPU"]


def test_colours_do_not_count_as_width() -> None:
    plain, coloured = (render(_COLUMNS, _ROWS, Terminal(50, colours=on))[1] for on in (False, True))
    assert "\x1b[31m1.5s\x1b[0m" in coloured
    assert coloured.replace("\x1b[31m", "").replace("\x1b[0m", "") == plain


def test_a_pipe_gets_no_colours_and_whole_texts() -> None:
    assert terminal_of(io.StringIO(), {}) == Terminal(None, colours=False)
    assert terminal_of(io.StringIO(), {"COLUMNS": "70"}) == Terminal(70, colours=False)


def test_a_terminal_gets_colours_unless_they_are_unwanted() -> None:
    assert terminal_of(_Tty(), {"COLUMNS": "70"}).colours
    assert not terminal_of(_Tty(), {"NO_COLOR": "1"}).colours
    assert not terminal_of(_Tty(), {"TERM": "dumb"}).colours


def test_names_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\n\u202ec") == "a\\x1b[2Jb\\x0a\N{REPLACEMENT CHARACTER}c"
    assert printable("Überraschung, 日本") == "Überraschung, 日本"


def test_wide_characters_take_two_columns() -> None:
    assert width_of("日本") == 4
    assert cut("日本語のフロー", 6) == "日本…"
    assert cut("short", 5) == "short"


def test_bytes() -> None:
    counts = [None, 0, 1023, 1024, 362_390_937, 1 << 40]
    assert [compact_bytes(count) for count in counts] == ["-", "0B", "1023B", "1.0K", "345.6M", "1.0T"]


def test_time_spans() -> None:
    spans = [None, -3.0, 59.9, 61, 11_100, 187_200]
    assert [compact_seconds(seconds) for seconds in spans] == ["-", "0s", "59s", "1m01s", "3h05m", "2d04h"]


def test_cpu_time() -> None:
    assert [compact_cpu(seconds) for seconds in (None, 0.04, 59.9, 61.0)] == ["-", "0.0s", "59.9s", "1m01s"]


def test_whatever_a_name_holds_a_table_stays_a_table() -> None:
    names = [
        "\x1b[31mred\x1b[0m",
        "two\nlines\tand a tab",
        "\u202eright to left",
        "e\u0301\u20dd",
        "☃\ufe0f",
        "日本語" * 9,
        "x" * 300,
    ]
    rows = [[Cell("id"), Cell(name), Cell("1"), Cell("2"), Cell("3")] for name in names]
    for width in (None, 30, 60):
        lines = render(_COLUMNS, rows, Terminal(width))
        assert all(line.isprintable() for line in lines)
        assert len({width_of(line) for line in lines}) == 1, "the last column is right-aligned, so all are as wide"
    assert (width_of("e\u0301\u20dd"), width_of("日本"), width_of("☃\ufe0f")) == (1, 4, 1)
