"""Tests side by side: what a worker gets as one, who runs alone, and that a worker's leftovers fail the run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.pytest_within import run_pytest
from support.side_by_side import scope_of

pytestmark = pytest.mark.timeout(300)  # each starts three Pythons

_SAMPLE = """\
import pathlib, time, pytest
FOLDER = pathlib.Path("{folder}")
FORGOTTEN = []

def see(name, seconds):
    begun = time.monotonic()
    time.sleep(seconds)
    (FOLDER / name).write_text(f"{{begun}} {{time.monotonic()}}")

@pytest.fixture(scope="session")
def forgets():
    FORGOTTEN.append((FOLDER / "forgotten").open("w"))
"""
_BESIDE = """
@pytest.mark.parametrize("number", range(4))
def test_beside(number): see(f"beside-{name}-{{number}}", 0.1)
"""
_ALONE = """
@pytest.mark.alone
@pytest.mark.parametrize("number", range(2))
def test_alone(number): see(f"alone-{{number}}", 0.3)
"""
_FORGETS = """
def test_forgets(forgets): pass
"""


@pytest.mark.parametrize(
    ("nodeid", "scope"),
    [
        ("tests/unit/test_proc.py::test_one", "tests/unit/test_proc.py"),
        ("tests/unit/test_proc.py::test_one[12-a]", "tests/unit/test_proc.py"),
        ("tests/system/test_bed.py::test_one[debian12]", "tests/system/test_bed.py@12"),
        ("tests/system/test_bed.py::test_one[debian13-a::b]", "tests/system/test_bed.py@13"),
        ("tests/system/test_bed.py::test_one[a-debian13]", "tests/system/test_bed.py@13"),
        ("tests/package/test_shutdown.py::test_one[13]", "tests/package/test_shutdown.py@13"),
    ],
)
def test_a_worker_gets_what_shares_a_machine(nodeid: str, scope: str) -> None:
    assert scope_of(nodeid) == scope


def _run(folder: Path, **files: str) -> subprocess.CompletedProcess[str]:
    tests = folder / "tests/unit"
    tests.mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    alone: measures something\n")
    for name, more in files.items():
        (tests / f"test_{name}.py").write_text((_SAMPLE + more).format(folder=folder, name=name))
    side_by_side = ("-n", "2", "--no-loadscope-reorder", "--import-mode=importlib")
    return run_pytest(folder, folder / "pytest.ini", *side_by_side, str(tests))


def _when(path: Path) -> tuple[float, float]:
    begun, over = map(float, path.read_text().split())
    return begun, over


def test_while_one_measures_the_others_stand_still(tmp_path: Path) -> None:
    result = _run(tmp_path, one=_BESIDE, measures=_ALONE, two=_BESIDE)
    assert "10 passed" in result.stdout, result.stdout + result.stderr
    assert result.returncode == 0
    for begun, over in map(_when, tmp_path.glob("alone-*")):
        others = [_when(path) for path in tmp_path.glob("beside-*")]
        assert len(others) == 8
        assert [other for other in others if other[0] < over and other[1] > begun] == []


def test_what_a_worker_leaves_fails_the_run(tmp_path: Path) -> None:
    result = _run(tmp_path, one=_BESIDE, forgetful=_FORGETS)
    assert "5 passed" in result.stdout, result.stdout + result.stderr
    assert "LEFT BEHIND by the whole run: descriptor" in result.stdout
    assert str(tmp_path / "forgotten") in result.stdout
    assert result.returncode == 1
