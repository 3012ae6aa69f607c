"""Reading along with the output files of flow runs: onto the console, each line with its run's name before it.

The flow runs write to their files themselves; whoever reads them may come and go. No more is read than the console
has room for: what waits for it waits in the files, up to a bound, and what is given up then is counted and said.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from local_agent.launchers.segments import Segments
from local_agent.plain import short

if TYPE_CHECKING:
    from pathlib import Path

    from local_agent.model import Record

_LOOK_SECONDS = 0.1
_LOOK_UNSEEN_SECONDS = 0.5  # where nothing is shown and a file is only kept from growing
_LOOK_AGAIN_SECONDS = 0.002  # where more waits than one look reads: others have their turn meanwhile
_MAX_BYTES = 16 * 1024 * 1024  # what was read is dropped from a file that grows beyond it
_MAX_UNREAD_BYTES = 256 * 1024 * 1024  # as is what was not read, where the console does not take it
_CHUNK_BYTES = 64 * 1024
_ROOM_BYTES = 1024 * 1024  # kept free on the console for what the agent says itself
_MAX_LAST_LOOKS = 64
_COLOURS = (36, 33, 32, 35, 34, 31)


class Console(Protocol):
    """Where lines are shown: `outbox.Outbox`."""

    @property
    def room_bytes(self) -> int:
        """How many bytes it takes now."""

    def put(self, message: bytes) -> None:
        """Take some lines."""


@dataclass
class _Followed:
    path: str | Path
    from_end: bool
    segments: Segments
    descriptor: int | None = None
    read_bytes: int = 0

    def open(self) -> None:
        """Open the file, once it can be. Raise OSError."""
        if self.descriptor is None:
            self.descriptor = _opened(self.path)
            if self.from_end:
                self.read_bytes = os.lseek(self.descriptor, 0, os.SEEK_END)

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


class Follower:
    """Follows files until they are removed and read to their end. Shows nothing where `console` is None."""

    def __init__(self, console: Console | None, *, is_terminal: bool = False) -> None:
        self._console = console
        self._is_terminal = is_terminal
        self._followed: list[_Followed] = []
        self._has_some = asyncio.Event()
        self._count = 0

    def follow(self, record: Record, path: str | Path) -> None:
        """Follow a run's file from now on. One that cannot be opened now is opened later."""
        self._add(record, path, from_end=False)

    def resume(self, record: Record, path: str | Path) -> None:
        """Follow the file of a run that is taken up again: what comes from now on."""
        self._add(record, path, from_end=True)

    def _add(self, record: Record, path: str | Path, *, from_end: bool) -> None:
        prefix = f"{short(record.name) or record.id[:8]} | "
        if self._is_terminal:
            prefix = f"\x1b[{_COLOURS[self._count % len(_COLOURS)]}m{prefix}\x1b[0m"
        self._count += 1
        one = _Followed(path, from_end, Segments(prefix.encode(errors="replace"), is_terminal=self._is_terminal))
        if self._console is not None:
            with contextlib.suppress(OSError):  # too many open files: the flow run is started all the same
                one.open()
        self._followed.append(one)
        self._has_some.set()

    async def for_ever(self) -> None:
        """Read along until cancelled."""
        try:
            while await self._has_some.wait():
                has_more = self._look()
                if not self._followed:
                    self._has_some.clear()
                await asyncio.sleep(_LOOK_AGAIN_SECONDS if has_more else self._pause_seconds)
        finally:
            # what was written since the last look is shown before the agent goes, as far as the console takes it
            for _ in range(_MAX_LAST_LOOKS):
                if not self._look():
                    break
            for one in self._followed:
                one.close()
            self._followed = []

    @property
    def _pause_seconds(self) -> float:
        return _LOOK_UNSEEN_SECONDS if self._console is None else _LOOK_SECONDS

    def _look(self) -> bool:
        """Show some of what is new of each file. Return whether there is more that the console would take now."""
        has_more, staying = False, []
        for one in self._followed:
            try:
                stays, more = self._see_to(one)
            except OSError:  # a disk's fault: nothing can be read of it, and the others have their turn
                stays, more = True, False
            has_more = has_more or more
            if stays:
                staying.append(one)
            else:
                one.close()
        self._followed = staying
        return has_more

    def _see_to(self, one: _Followed) -> tuple[bool, bool]:
        """Show some of one file. Return whether it stays, and whether more can be shown at once. Raise OSError."""
        if self._console is None:
            return _keep_from_growing(one), False
        try:
            one.open()
        except FileNotFoundError:
            return False, False
        except OSError:
            return True, False
        assert one.descriptor is not None
        status = os.fstat(one.descriptor)  # asked first: what comes later is read below
        if not self._has_room:
            self._drop_unread(one, status.st_size)
            return True, False
        if self._read(one, one.descriptor):
            return True, self._has_room
        if status.st_nlink == 0:
            self._show(one.segments.end())
            return False, False
        if one.read_bytes > _MAX_BYTES:
            _empty(one)
        return True, False

    @property
    def _has_room(self) -> bool:
        return self._console is not None and self._console.room_bytes > _ROOM_BYTES

    def _read(self, one: _Followed, descriptor: int) -> bool:
        """Show a chunk; tell whether there may be more."""
        chunk = os.pread(descriptor, _CHUNK_BYTES, one.read_bytes)
        one.read_bytes += len(chunk)
        self._show(one.segments.shown(chunk))
        return len(chunk) == _CHUNK_BYTES

    def _drop_unread(self, one: _Followed, size_bytes: int) -> None:
        """Give up what nobody reads before it fills the disk, and have it said in its place."""
        if size_bytes - one.read_bytes > _MAX_UNREAD_BYTES:
            one.segments.note_gap(size_bytes - one.read_bytes)
            _empty(one)

    def _show(self, text: bytes) -> None:
        if self._console is not None and text:
            self._console.put(text)


def _opened(path: str | Path) -> int:
    """Open a run's file. What its flow put there instead, a link or a pipe, is not followed. Raise OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file")
    return descriptor


def _keep_from_growing(one: _Followed) -> bool:
    """Cut a file short that nobody reads and that has grown too large. Return whether there is one. Raise OSError.

    It is opened only for that: a thousand files are looked at twice a second.
    """
    try:
        is_large = os.stat(one.path, follow_symlinks=False).st_size > _MAX_BYTES  # noqa: PTH116 - pathlib interns it
        if is_large:
            one.open()
            _empty(one)
    except FileNotFoundError:
        return False
    finally:
        one.close()
    return True


def _empty(one: _Followed) -> None:
    assert one.descriptor is not None
    os.ftruncate(one.descriptor, 0)  # its writers append
    one.read_bytes = 0
