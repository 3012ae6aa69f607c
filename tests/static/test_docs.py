"""What docs/ promises is shown by tests that exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from support.checkout import CHECKOUT

_DOCS = CHECKOUT / "docs"
_IPV6 = re.compile(r"\[[0-9a-f:.%\w]+\]")
_REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::([\w*]+)`")
_ROW = re.compile(r"^\| (\d+) \|(.*)\|(.*)\|(.*)\|$", re.MULTILINE)
# sentences about nothing that an agent does
_NOTHING_TO_SHOW = {"documentation.md": {1}, "defects.md": set[int]()}


@functools.cache
def _tests_in(file: Path) -> frozenset[str]:
    """Return the names of the tests in a file; none where there is no file."""
    if not file.exists():
        return frozenset()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse(file.read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, functions) and node.name.startswith("test_"))


def named_tests(file: str, test: str) -> bool:
    """Tell whether a test is there; "*" is any test of a file."""
    names = _tests_in(CHECKOUT / file)
    return bool(names) if test == "*" else test in names


def references_in(text: str) -> list[tuple[str, str]]:
    """Return the tests that a text names: file and test."""
    return _REFERENCE.findall(text)


def test_every_test_that_is_named_exists() -> None:
    documents = sorted(_DOCS.rglob("*.md"))
    named = [(path.name, *reference) for path in documents for reference in _REFERENCE.findall(path.read_text())]
    assert len(named) > 100
    assert [reference for reference in named if not named_tests(*reference[1:])] == []


def test_every_reference_is_found() -> None:
    """One that is written in another way would be checked by nobody."""
    for path in sorted(_DOCS.rglob("*.md")):
        text = path.read_text()
        assert _IPV6.sub("", text).count("::") == len(_REFERENCE.findall(text)), path


@pytest.mark.parametrize(("name", "count"), [("documentation.md", 44), ("defects.md", 19)])
def test_every_row_is_there_and_shown(name: str, count: int) -> None:
    rows = {int(number): rest for number, *rest in _ROW.findall((_DOCS / name).read_text())}
    assert list(rows) == list(range(1, count + 1))
    shown = {number for number, (_, _, tests) in rows.items() if _REFERENCE.search(tests)}
    assert set(rows) - shown == _NOTHING_TO_SHOW[name]
