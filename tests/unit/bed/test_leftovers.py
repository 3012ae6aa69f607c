"""The check that every test leaves nothing behind: does it see what is left?"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from support.leftovers import RecordingPolicy, TaskRecorder, left_since, start_ticks, take_snapshot


def test_nothing_is_left_when_nothing_was_done() -> None:
    assert left_since(take_snapshot(), grace_seconds=0) == []


def test_child_is_seen_running_and_dead() -> None:
    before = take_snapshot()
    child = subprocess.Popen(["sleep", "1000"])
    # Popen returns in the middle of the child's execve(2)
    _wait_until(lambda: left_since(before, grace_seconds=0) == [f"process {child.pid}: sleep 1000"])
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    (zombie,) = left_since(before, grace_seconds=0)
    assert "nobody has waited for it" in zombie
    child.wait()
    assert left_since(before, grace_seconds=0) == []


def test_abandoned_grandchild_is_seen() -> None:
    before = take_snapshot()
    script = "setsid sleep 1000 >/dev/null 2>&1 & echo $!"
    pid = int(subprocess.run(["sh", "-c", script], check=True, stdout=subprocess.PIPE).stdout)
    try:
        _wait_until(lambda: left_since(before, grace_seconds=0) == [f"process {pid}: sleep 1000"])
    finally:
        os.kill(pid, signal.SIGKILL)
    assert left_since(before, grace_seconds=30) == []


def test_process_that_is_just_starting_another_program_is_seen() -> None:
    """A program that starts itself again all the time is in the middle of execve(2) as often as not."""
    before = take_snapshot()
    restless = Path(tempfile.mkdtemp()) / "restless"
    restless.write_text('#!/bin/sh\n[ "$1" = 600 ] || exec "$0" $(($1 + 1))\n')
    restless.chmod(0o755)
    script = f"setsid {restless} 0 >/dev/null 2>&1 & echo $!"
    pid = int(subprocess.run(["sh", "-c", script], check=True, stdout=subprocess.PIPE).stdout)
    started, sightings = start_ticks(pid), []
    while start_ticks(pid) == started:
        sightings.append(bool(left_since(before, grace_seconds=0)))
    shutil.rmtree(restless.parent)
    # once it has ended, it is there and not seen until its new parent has waited for it
    while not sightings[-1]:
        sightings.pop()
    assert sightings.count(False) == 0, f"of {len(sightings)} looks"


def test_thread_and_descriptor_are_seen(tmp_path: Path) -> None:
    before = take_snapshot()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="forgotten")
    thread.start()
    with (tmp_path / "file").open("w") as file:
        left = left_since(before, grace_seconds=0)
        assert left == ["thread forgotten", f"descriptor {file.fileno()}: {tmp_path / 'file'}"]
    release.set()
    thread.join()
    assert left_since(before, grace_seconds=0) == []


def test_what_is_just_ending_has_time_to_end() -> None:
    before = take_snapshot()
    child = subprocess.Popen(["sleep", "0.3"])
    reaper = threading.Thread(target=child.wait)
    reaper.start()
    assert left_since(before, grace_seconds=30) == []
    reaper.join()


def test_task_that_nobody_awaited_is_seen() -> None:
    recorder = TaskRecorder()
    loop = RecordingPolicy(recorder).new_event_loop()

    async def leave_one() -> None:
        await asyncio.ensure_future(asyncio.sleep(0))
        loop.create_task(asyncio.sleep(1000), name="forgotten")

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(leave_one())
    (left,) = recorder.take()
    assert "name='forgotten'" in left
    assert recorder.take() == []


def _wait_until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
