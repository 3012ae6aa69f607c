"""Rules of this repository that no linter knows."""

from __future__ import annotations

import ast
import statistics
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.checkout import CHECKOUT

_MAX_LINES = {"src": 420, "tests": 500, "packaging": 500}
_MEDIAN_LINES, _NINE_IN_TEN_LINES = 6, 15


def _python_files(folder: str) -> Iterator[Path]:
    yield from sorted((CHECKOUT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", _MAX_LINES)
def test_no_file_is_long(folder: str) -> None:
    most = _MAX_LINES[folder]
    long = {str(file.relative_to(CHECKOUT)): _lines(file) for file in _python_files(folder) if _lines(file) > most}
    assert not long, f"split these; {most} lines is the most that a reader holds in mind"


def test_functions_are_short() -> None:
    found = [
        (node.end_lineno or 0) - node.lineno + 1
        for file in _python_files("src")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    tenths = statistics.quantiles(found, n=10)
    assert statistics.median(found) <= _MEDIAN_LINES
    assert tenths[-1] <= _NINE_IN_TEN_LINES


def _lines(file: Path) -> int:
    return len(file.read_text().splitlines())


def test_every_test_has_a_timeout(pytestconfig: pytest.Config) -> None:
    settings: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    assert settings["tool"]["pytest"]["ini_options"]["timeout"] > 0
    assert pytestconfig.pluginmanager.hasplugin("timeout"), "pytest-timeout is not installed"


def test_no_test_takes_its_timeout_away() -> None:
    forbidden = ("timeout" + "(0)", "timeout" + "=0)")
    tests = (CHECKOUT / "tests").rglob("*.py")
    files = [str(file) for file in tests if any(words in file.read_text() for words in forbidden)]
    assert not files
