"""What tests/conftest.py does to a run: skips fail where asked, coroutines run, and what is left is told."""

from __future__ import annotations

import os
from pathlib import Path

from support.pytest_within import run_pytest

_TESTS = """\
import asyncio
import pytest

@pytest.mark.skip(reason="no such machine")
def test_skipped(): pass

async def test_coroutine(tmp_path):
    await asyncio.sleep(0)
    assert tmp_path.is_dir()

async def test_coroutine_that_fails(): raise ValueError("seen")

async def test_task(): asyncio.get_running_loop().create_task(asyncio.sleep(1000), name="forgotten")
"""


def _run(folder: Path, *, no_skip: str) -> str:
    file = folder / "tests/unit/test_sample.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_TESTS)
    result = run_pytest(folder, Path(os.devnull), "-ra", str(file), LOCAL_AGENT_TESTS_NO_SKIP=no_skip)
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout


def test_skip_is_told_with_its_reason(tmp_path: Path) -> None:
    printed = _run(tmp_path, no_skip="0")
    assert "no such machine" in printed
    assert "1 failed, 2 passed, 1 skipped, 1 error" in printed
    assert "ValueError: seen" in printed
    assert "this test left behind" in printed
    assert "forgotten" in printed


def test_skip_fails_where_nothing_may_be_skipped(tmp_path: Path) -> None:
    printed = _run(tmp_path, no_skip="1")
    assert "LOCAL_AGENT_TESTS_NO_SKIP=1 allows no skip, but: Skipped: no such machine" in printed
    assert "skipped" not in printed.splitlines()[-1]
