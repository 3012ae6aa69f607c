"""The linters, as tests: what they say fails the run like anything else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checkout import CHECKOUT

_SHEBANGS = (b"#!/bin/sh", b"#!/bin/bash", b"#!/usr/bin/env bash", b"#!/usr/bin/env sh")
_FOLDERS = ("src", "tests", "packaging", "units", "debian", ".ci")


def _run(*command: str | Path) -> None:
    result = subprocess.run(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert result.returncode == 0, f"{' '.join(map(str, command))}:\n{result.stdout}{result.stderr}"


def test_ruff_finds_nothing() -> None:
    _run(sys.executable, "-m", "ruff", "check", "--output-format=concise")


def test_ruff_would_format_nothing() -> None:
    _run(sys.executable, "-m", "ruff", "format", "--diff", "--quiet")


@pytest.mark.timeout(300)
def test_mypy_finds_nothing() -> None:
    _run(sys.executable, "-m", "mypy")


def _shell_scripts() -> Iterator[Path]:
    for folder in _FOLDERS:
        for file in sorted((CHECKOUT / folder).rglob("*")):
            if file.is_file() and (file.suffix == ".sh" or _is_shell(file)):
                yield file


def _is_shell(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.readline().rstrip().startswith(_SHEBANGS)


def test_shellcheck_finds_nothing() -> None:
    assert shutil.which("shellcheck"), "shellcheck is missing: `make test` installs it, or apt-get install shellcheck"
    scripts = list(_shell_scripts())
    assert scripts
    _run("shellcheck", *scripts)
