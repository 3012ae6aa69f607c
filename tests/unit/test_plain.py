"""Text of strangers, made fit for a terminal, for the API, and for a URL that is shown."""

from __future__ import annotations

import json

import pytest

from local_agent import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("calm-otter", "calm-otter"),
        ("nightly\x1b]0;owned\x07\x1b[2J\nsecond", "nightly?]0;owned??[2J?second"),
        ("a\u202eb\u2066c\ud800d\0e\x9bf", "a?b?c?d?e?f"),
        ("\N{WAVING HAND SIGN} gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n", "\N{WAVING HAND SIGN} gr\xfcn"),
    ],
)
def test_a_line_for_a_terminal(text: str, shown: str) -> None:
    assert plain.printable(text) == shown
    assert plain.short(text) == shown


def test_a_name_is_shortened() -> None:
    assert plain.short("n" * 10_000) == "n" * plain.MAX_NAME + "..."


def test_a_text_for_the_api_keeps_its_lines_and_loses_what_no_database_takes() -> None:
    text = "one\r\n\ttwo\x1b[31mred\x1b[0m\0\ud800\x07"
    assert plain.sendable(text) == "one\n\ttwored" + "\N{REPLACEMENT CHARACTER}" * 3


@pytest.mark.parametrize("char", ["a", "\xe4", "\N{WAVING HAND SIGN}", "\0", "\\", "\n", "\x1b[31m"])
def test_the_largest_text_is_a_part_of_what_the_api_takes(char: str) -> None:
    state = json.dumps({"message": plain.sendable(char * 5_000_000)})
    assert len(json.dumps(json.dumps(state))) < 600_000


@pytest.mark.parametrize(
    "text", ["caf\u00e9 \U0001f389", "\ud800", "a\x9b31mb\x7f", "\u2028\u202e\U000e0001", "\x1b[31m\n"]
)
def test_json_of_any_text_can_be_written_and_read_again(text: str) -> None:
    written = plain.json_text({"name": text})
    assert json.loads(written.encode()) == {"name": text}
    assert written.isprintable()


def test_last_words_are_ten_lines_of_bounded_length() -> None:
    words = plain.last_words(["first", *["\xe4" * 100_000] * 12, "la\0st"])
    assert len(words) == plain.MAX_LAST_LINES
    assert max(map(len, words)) == plain.MAX_LINE + 3
    assert words[-1] == "la\N{REPLACEMENT CHARACTER}st"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost:4200", "http://localhost:4200"),
        ("https://flows:s3cret@api.example:444/graphql?x=1", "https://flows:***@api.example:444/graphql?x=1"),
        ("https://s3cret@api.example", "https://***@api.example"),
        ("https://flows:s3@cr/et@api.example", "https://***@api.example"),
        ("http://[::1]:4200/", "http://[::1]:4200/"),
        ("http://a:s3cret@[::1", "***"),
        ("http://a:s3cret@[fe80::1]:42/", "http://a:***@[fe80::1]:42/"),
        ("http://host/\x1b[2J", "http://host/?[2J"),
        ("unix:///run/local-agent@blue/api.sock", "unix:///run/local-agent@blue/api.sock"),
        ("unix:///run/\x1b[2J", "unix:///run/?[2J"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert plain.shown_url(url) == shown
    assert "s3cret" not in plain.without_credentials(f"cannot reach {url}: why")
