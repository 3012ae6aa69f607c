"""Reading along with the output of flow runs."""

from __future__ import annotations

import asyncio
import errno
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from local_agent.launchers.follow import Follower
from support import samples
from support.api_client import wait_until

_MIB = 1024**2


class Console(io.StringIO):
    """A console, or a pipe where nobody sees colours; while `broken` is set each write fails with it."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        super().__init__()
        self._is_terminal = is_terminal
        self.broken: OSError | None = None
        self.failures = 0

    def isatty(self) -> bool:
        """Tell whether somebody sees colours."""
        return self._is_terminal

    def write(self, text: str) -> int:
        """Take a text."""
        if self.broken is not None:
            self.failures += 1
            raise self.broken
        return super().write(text)


@asynccontextmanager
async def _following(follower: Follower) -> AsyncIterator[None]:
    task = asyncio.create_task(follower.for_ever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _until(condition: Callable[[], bool], console: Console) -> None:
    await asyncio.to_thread(wait_until, condition, lambda: f"the console has {console.getvalue()!r}")


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def _follow(follower: Follower, path: Path, name: str = "calm-otter") -> Path:
    path.touch()
    follower.follow(samples.record(name=name), path)
    return path


async def test_whole_lines_are_shown_each_with_the_name_of_its_run(tmp_path: Path) -> None:
    console = Console()
    follower = Follower(console)
    first, second = _follow(follower, tmp_path / "a", "calm-otter"), _follow(follower, tmp_path / "b", "")
    async with _following(follower):
        _append(first, "one\ntw")
        _append(second, "other\n")
        await _until(lambda: "other" in console.getvalue(), console)
        assert "tw" not in console.getvalue()
        _append(first, "o\n")
        await _until(lambda: "two" in console.getvalue(), console)
    lines = console.getvalue().splitlines()
    assert sorted(lines) == [f"{samples.RUN_ID[:8]} | other", "calm-otter | one", "calm-otter | two"]


async def test_what_is_there_when_the_file_goes_is_shown_to_its_end(tmp_path: Path) -> None:
    console = Console()
    follower = Follower(console)
    path = _follow(follower, tmp_path / "a")
    async with _following(follower):
        _append(path, "one\nno newline")
        path.unlink()
        await _until(lambda: "no newline\n" in console.getvalue(), console)


async def test_each_run_has_a_colour_on_a_terminal(tmp_path: Path) -> None:
    console = Console(is_terminal=True)
    follower = Follower(console)
    paths = [_follow(follower, tmp_path / name, name) for name in "ab"]
    async with _following(follower):
        for path in paths:
            _append(path, "x\n")
        await _until(lambda: console.getvalue().count("\n") == 2, console)
    first, second = console.getvalue().splitlines()
    assert first.startswith("\x1b[")
    assert first.endswith("\x1b[0mx")
    assert first.split("m")[0] != second.split("m")[0]


async def test_what_is_no_text_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    console = Console()
    follower = Follower(console)
    path = _follow(follower, tmp_path / "a")
    async with _following(follower):
        path.write_bytes(b"\xff\xfe ok\n")
        await _until(lambda: "ok" in console.getvalue(), console)


async def test_a_file_that_was_read_is_cut_before_it_fills_the_disk(tmp_path: Path) -> None:
    console = Console()
    follower = Follower(None)
    path = _follow(follower, tmp_path / "a")
    with path.open("ab") as file:
        file.write((b"x" * 1023 + b"\n") * 1024 * 17)
    assert path.stat().st_size == 17 * _MIB
    async with _following(follower):
        await _until(lambda: path.stat().st_size == 0, console)
        _append(path, "after\n")
        assert path.read_text() == "after\n"


async def test_a_pipe_that_is_gone_ends_the_showing_and_nothing_else(tmp_path: Path) -> None:
    console = Console()
    console.broken = BrokenPipeError()
    follower = Follower(console)
    path = _follow(follower, tmp_path / "a")
    async with _following(follower):
        _append(path, "one\n")
        await _until(lambda: console.failures == 1, console)
        console.broken = None
        with path.open("ab") as file:
            file.write((b"x" * 1023 + b"\n") * 1024 * 17)
        await _until(lambda: path.stat().st_size == 0, console)
    assert console.getvalue() == ""


async def test_a_full_disk_loses_lines_and_no_more(tmp_path: Path) -> None:
    console = Console()
    console.broken = OSError(errno.ENOSPC, "No space left on device")
    follower = Follower(console)
    path = _follow(follower, tmp_path / "a")
    async with _following(follower):
        _append(path, "one\n")
        await _until(lambda: console.failures == 1, console)
        console.broken = None
        _append(path, "two\n")
        await _until(lambda: "two" in console.getvalue(), console)


async def test_a_run_that_is_taken_up_again_is_followed_from_there_on(tmp_path: Path) -> None:
    console = Console()
    follower = Follower(console)
    path = tmp_path / "a"
    path.write_text("shown before\n")
    follower.resume(samples.record(name="calm-otter"), path)
    async with _following(follower):
        _append(path, "new\n")
        await _until(lambda: "new" in console.getvalue(), console)
    assert console.getvalue() == "calm-otter | new\n"


async def test_a_file_of_a_run_that_was_taken_up_again_does_not_fill_the_disk_either(tmp_path: Path) -> None:
    console = Console()
    follower = Follower(None)
    path = tmp_path / "a"
    path.write_bytes((b"x" * 1023 + b"\n") * 1024 * 17)
    follower.resume(samples.record(), path)
    async with _following(follower):
        await _until(lambda: path.stat().st_size == 0, console)


async def test_a_file_that_cannot_be_opened_is_opened_later(tmp_path: Path) -> None:
    """As where too many files are open: root may open any file, but not what a link points to in vain."""
    console = Console()
    follower = Follower(console)
    path = tmp_path / "a"
    path.symlink_to(path)
    follower.follow(samples.record(name="calm-otter"), path)
    async with _following(follower):
        (tmp_path / "b").write_text("late\n")
        (tmp_path / "b").replace(path)
        await _until(lambda: "late" in console.getvalue(), console)
    assert console.getvalue() == "calm-otter | late\n"
