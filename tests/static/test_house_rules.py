"""Rules of this repository that no linter knows."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.checkout import CHECKOUT

_MAX_LINES = 500
_FOLDERS = ("src", "tests", "packaging")


def _python_files() -> Iterator[Path]:
    for folder in _FOLDERS:
        yield from sorted((CHECKOUT / folder).rglob("*.py"))


def test_no_file_is_long() -> None:
    long = {str(file.relative_to(CHECKOUT)): _lines(file) for file in _python_files() if _lines(file) >= _MAX_LINES}
    assert not long, f"split these; {_MAX_LINES} lines is the most that a reader holds in mind"


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
