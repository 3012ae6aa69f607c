"""What SECURITY.md promises is shown by tests that exist."""

from __future__ import annotations

import re

from static.test_docs import named_tests, references_in
from support.checkout import CHECKOUT

_TEXT = (CHECKOUT / "SECURITY.md").read_text()
_ROW = re.compile(
    r"^\| (?P<who>.+?) \| (?P<what>.+?) \| (?P<may>.+?) \| (?P<where>.+?) \| (?P<shown>.*?) \|$", re.MULTILINE
)
_RELEASES = {"both", "12", "13"}


def _rows() -> list[re.Match[str]]:
    return [row for row in _ROW.finditer(_TEXT) if row["who"] not in ("who", "---")]


def test_every_row_says_who_may_what_on_which_release() -> None:
    rows = _rows()
    assert len(rows) >= 30
    wrong = [
        row[0]
        for row in rows
        if row["where"] not in _RELEASES or row["may"].split(",")[0].split(":")[0] not in ("yes", "no")
    ]
    assert wrong == []


def test_every_row_is_shown_by_tests_that_exist() -> None:
    assert [row[0] for row in _rows() if not references_in(row["shown"])] == []
    assert [one for one in references_in(_TEXT) if not named_tests(*one)] == []
    assert _TEXT.count("::") == len(references_in(_TEXT)), "written in another way it would be checked by nobody"
