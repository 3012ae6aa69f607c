"""Is the interpreter fit for flow runs? Asked with scripts that answer in its place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from local_agent import events
from local_agent.agent.interpreter import Interpreter, ask
from local_agent.aio.threads import Workers
from local_agent.settings import Settings
from support import samples
from support.clock import SkippingClock

_FIT, _UNFIT = "echo 1.4.1", "exit 1"


def _script(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\necho asked >>{path}.asked\n{script}\n")
    path.chmod(0o755)
    return path


def _times_asked(path: Path) -> int:
    return len(Path(f"{path}.asked").read_text().splitlines())


class Bed:
    """An interpreter that a test can replace, and what is said of it."""

    def __init__(self, folder: Path, workers: Workers) -> None:
        self.clock = SkippingClock()
        self.log = samples.ListLog()
        self.settings = samples.settings(python=folder / "python")
        self.interpreter = Interpreter(self._settings, samples.NEEDS, workers, self.clock, self.log)

    def _settings(self) -> Settings:
        return self.settings


@asynccontextmanager
async def _bed(folder: Path) -> AsyncIterator[Bed]:
    workers = Workers("test", 1)
    try:
        yield Bed(folder, workers)
    finally:
        workers.close()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 1.4.1", ""),
        ("echo 0.15.13", ""),
        ("echo 2.20.1", "has prefect 2.20.1; flow runs need Prefect 1"),
        ("exit 1", "has no prefect; set `python` to one that has prefect 1.4.1: `local-agent doctor` tells how"),
    ],
)
def test_what_it_answers(tmp_path: Path, script: str, reason: str) -> None:
    python = _script(tmp_path / "python", script)
    assert ask(python, samples.NEEDS) == (f"{python} {reason}" if reason else "")


def test_one_that_does_not_run(tmp_path: Path) -> None:
    assert ask(tmp_path / "nothing", samples.NEEDS).startswith(f"{tmp_path}/nothing does not run: ")


async def test_a_fit_one_is_asked_once(tmp_path: Path) -> None:
    python = _script(tmp_path / "python", _FIT)
    async with _bed(tmp_path) as bed:
        for _ in range(3):
            assert await bed.interpreter.reason_against() == ""
            bed.clock.advance(3600)
    assert _times_asked(python) == 1
    assert bed.log.events == []


async def test_in_doubt_a_fit_one_is_asked_again_but_not_for_every_flow_run(tmp_path: Path) -> None:
    python = _script(tmp_path / "python", _FIT)
    async with _bed(tmp_path) as bed:
        assert await bed.interpreter.reason_against() == ""
        _script(python, _UNFIT)
        for _ in range(3):
            bed.interpreter.doubt()
            assert await bed.interpreter.reason_against() == ""
            bed.clock.advance(2)
        assert await bed.interpreter.reason_against() != ""
        assert _times_asked(python) == 2
        assert bed.log.events == [events.NO_PREFECT]


async def test_an_unfit_one_is_said_once_and_asked_again_every_half_minute(tmp_path: Path) -> None:
    python = _script(tmp_path / "python", _UNFIT)
    async with _bed(tmp_path) as bed:
        for _ in range(4):
            assert "has no prefect" in await bed.interpreter.reason_against()
            bed.clock.advance(16)
        assert _times_asked(python) == 2
        assert bed.log.events == [events.NO_PREFECT]
        _script(python, _FIT)
        bed.clock.advance(31)
        assert await bed.interpreter.reason_against() == ""
    assert bed.log.events == [events.NO_PREFECT, events.PREFECT_FOUND]


async def test_another_one_is_asked_at_once(tmp_path: Path) -> None:
    _script(tmp_path / "python", _UNFIT)
    other = _script(tmp_path / "other", _FIT)
    async with _bed(tmp_path) as bed:
        assert await bed.interpreter.reason_against()
        bed.settings = samples.settings(python=other)
        assert await bed.interpreter.reason_against() == ""
