"""Reading along with the output of flow runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from local_agent.launchers.follow import Follower
from support import samples
from support.api_client import wait_until

_MIB = 1024**2


class Console:
    """A console, or a pipe where nobody sees colours; while `room_bytes` is 0 nobody reads it."""

    def __init__(self) -> None:
        self.text = ""
        self.room_bytes = 4 * _MIB

    def put(self, message: bytes) -> None:
        """Take some lines."""
        self.text += message.decode()

    def getvalue(self) -> str:
        """Return what was shown."""
        return self.text


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
    console = Console()
    follower = Follower(console, is_terminal=True)
    paths = [_follow(follower, tmp_path / name, name) for name in "ab"]
    async with _following(follower):
        for path in paths:
            _append(path, "x\n")
        await _until(lambda: console.getvalue().count("\n") == 2, console)
    first, second = console.getvalue().splitlines()
    assert first.startswith("\x1b[")
    assert first.endswith("\x1b[0mx\x1b[K")
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


async def test_what_nobody_reads_waits_in_the_file(tmp_path: Path) -> None:
    console = Console()
    console.room_bytes = 0
    follower = Follower(console)
    path, seen = _follow(follower, tmp_path / "a"), _follow(follower, tmp_path / "b")
    async with _following(follower):
        _append(path, "one\n" * 100_000)
        _append(seen, "x\n")
        await asyncio.sleep(0.3)  # two looks
        assert console.text == ""
        console.room_bytes = 4 * _MIB
        await _until(lambda: console.text.count("| one\n") == 100_000, console)


async def test_what_nobody_reads_does_not_fill_the_disk_and_is_counted(tmp_path: Path) -> None:
    console = Console()
    console.room_bytes = 0
    follower = Follower(console)
    path = _follow(follower, tmp_path / "a")
    os.truncate(path, 300 * _MIB)  # without blocks: as large as it looks, and quick to make
    async with _following(follower):
        await _until(lambda: path.stat().st_size == 0, console)
        console.room_bytes = 4 * _MIB
        _append(path, "after\n")
        await _until(lambda: "after" in console.text, console)
    lost = f"[{300 * _MIB} bytes are not shown: the console did not read]"
    assert console.text == f"calm-otter | {lost}\ncalm-otter | after\n"


async def test_a_progress_bar_is_shown_as_it_is_drawn(tmp_path: Path) -> None:
    console = Console()
    follower = Follower(console)
    path = _follow(follower, tmp_path / "a")
    async with _following(follower):
        for percent in range(3):
            _append(path, f"\r{percent}%")
            await _until(lambda percent=percent: f"| {percent}%\n" in console.text, console)  # type: ignore[misc]


async def test_what_is_put_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    """A link that root would empty, a pipe that would hold up the agent."""
    console = Console()
    follower = Follower(console)
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * 17 * _MIB)
    (tmp_path / "link").symlink_to(victim)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("link", "pipe", "zero"):
        follower.follow(samples.record(name=name), tmp_path / name)
    seen = _follow(follower, tmp_path / "seen")
    async with _following(follower):
        _append(seen, "seen\n")
        await _until(lambda: "seen" in console.text, console)
    assert console.text == "calm-otter | seen\n"
    assert victim.stat().st_size == 17 * _MIB


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
