"""What a test may leave behind: nothing. A `Snapshot` before and one after, and the difference in words.

Processes are found in two ways: children of this process (zombies too), and every process on the machine
that carries this run's marker in its environment, which also finds those that a test's child abandoned.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# not LOCAL_AGENT_*: the agent keeps those from its flow runs, which have to be found too
MARKER = "PYTEST_RUN_ID"

_PROC = Path("/proc")
_EXEC_LOOKS = 20
_EXEC_LOOK_SECONDS = 0.002


@dataclass(frozen=True)
class Snapshot:
    """The processes, threads and descriptors that exist at one moment, each with words to name it by."""

    processes: Mapping[tuple[int, int], str]
    threads: Mapping[int, str]
    descriptors: Mapping[tuple[int, str], str]

    def new_since(self, before: Snapshot) -> list[str]:
        """Given an earlier snapshot, return a line for each thing that is only in this one."""
        return [
            *_only_in(self.processes, before.processes),
            *_only_in(self.threads, before.threads),
            *_only_in(self.descriptors, before.descriptors),
        ]


def take_snapshot() -> Snapshot:
    """Return what exists now."""
    return Snapshot(_processes(), _threads(), _descriptors())


def left_since(before: Snapshot, *, grace_seconds: float = 5.0) -> list[str]:
    """Given the snapshot from before a test, return what it left; what is just ending has time to end."""
    left = take_snapshot().new_since(before)
    if left:
        gc.collect()  # an unreferenced file or process in a reference cycle is closed by this
    deadline = time.monotonic() + grace_seconds
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = take_snapshot().new_since(before)
    return left


def _only_in(now: Mapping[Any, str], before: Mapping[Any, str]) -> list[str]:
    return [words for key, words in now.items() if key not in before]


def _processes() -> dict[tuple[int, int], str]:
    found = {}
    for pid in {*_children(), *_marked()}:
        if (started := start_ticks(pid)) is not None:
            found[pid, started] = f"process {pid}: {_command_line(pid)}"
    return found


def _children() -> Iterator[int]:
    for task in (_PROC / "self/task").iterdir():
        try:
            yield from map(int, (task / "children").read_text().split())
        except OSError:
            continue  # the thread has just ended


def _marked() -> Iterator[int]:
    marker = os.environ.get(MARKER)
    if not marker:
        return
    wanted = f"{MARKER}={marker}".encode()
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid() and wanted in _environment(folder):
            yield int(folder.name)


def _environment(folder: Path) -> bytes:
    """Read a process's environment, also of one that is in the middle of execve(2).

    There the kernel has given it its new memory and not yet its environment: the file opens and is empty. Taken for a
    process without the marker, it would be taken for ended. A kernel thread's file and a zombie's do not open.
    """
    for _ in range(_EXEC_LOOKS):
        try:
            if found := (folder / "environ").read_bytes():
                return found
        except OSError:
            return b""  # gone, or another user's
        time.sleep(_EXEC_LOOK_SECONDS)
    return b""  # it has none


def start_ticks(pid: int) -> int | None:
    """Return when the process started, which with its pid names it for good; None when it is gone."""
    stat = _read(_PROC / str(pid) / "stat")
    return int(stat.rsplit(b")", 1)[1].split()[19]) if stat else None


def _command_line(pid: int) -> str:
    words = _read(_PROC / str(pid) / "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    if words:
        return words
    name = _read(_PROC / str(pid) / "comm").decode(errors="replace").strip()
    # in the middle of execve(2) a process has no command line either
    return f"{name} ({'ended, but nobody has waited for it' if _is_zombie(pid) else 'starting'})"


def _is_zombie(pid: int) -> bool:
    stat = _read(_PROC / str(pid) / "stat")
    return not stat or stat.rpartition(b")")[2].split()[0] in (b"Z", b"X")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # gone, or another user's


def _threads() -> dict[int, str]:
    return {id(thread): f"thread {thread.name}" for thread in threading.enumerate()}


def _descriptors() -> dict[tuple[int, str], str]:
    found = {}
    folder = _PROC / "self/fd"
    for entry in list(folder.iterdir()):
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # it was the one that listed this folder
        found[int(entry.name), target] = f"descriptor {entry.name}: {target}"
    return found


class TaskRecorder:
    """Notes tasks still pending when a loop's main coroutine has returned, before asyncio.run ends them."""

    def __init__(self) -> None:
        self._seen: list[str] = []

    def note(self, loop: asyncio.AbstractEventLoop) -> None:
        """Given a loop that has just finished its main coroutine, note the tasks that nobody awaited."""
        self._seen += [f"asyncio task {task!r}" for task in asyncio.all_tasks(loop)]

    def take(self) -> list[str]:
        """Return what was noted since the last call."""
        seen, self._seen = self._seen, []
        return seen


class _RecordingLoop(asyncio.SelectorEventLoop):
    def __init__(self, recorder: TaskRecorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._main_is_over = False

    def run_until_complete(self, future: Any) -> Any:  # noqa: ANN401 - as asyncio declares it
        try:
            return super().run_until_complete(future)
        finally:
            if not self._main_is_over:  # later calls are asyncio's own clean-up
                self._main_is_over = True
                self._recorder.note(self)


class RecordingPolicy(asyncio.DefaultEventLoopPolicy):
    """Gives out loops that tell the recorder which tasks were left."""

    def __init__(self, recorder: TaskRecorder) -> None:
        super().__init__()
        self._recorder = recorder

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Return a loop like the default one."""
        return _RecordingLoop(self._recorder)
