"""Reading along with the output files of flow runs: onto the console, each line with its run's name before it.

The flow runs write to their files themselves; whoever reads them may come and go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from local_agent.plain import short

if TYPE_CHECKING:
    from pathlib import Path

    from local_agent.model import Record

_LOOK_SECONDS = 0.1
_LOOK_UNSEEN_SECONDS = 0.5  # where nothing is shown and a file is only kept from growing
_MOST_BYTES = 16 * 1024 * 1024  # what was read is dropped from a file that grows beyond it
_CHUNK_BYTES = 256 * 1024
_MOST_CHUNKS = 16
_COLOURS = (36, 33, 32, 35, 34, 31)


@dataclass
class _Followed:
    prefix: str
    path: str | Path
    from_end: bool
    descriptor: int | None = None
    rest: bytes = b""
    seen_bytes: int = 0

    def open(self) -> None:
        """Open the file, once it can be. Raise OSError."""
        if self.descriptor is None:
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            if self.from_end:
                self.seen_bytes = os.lseek(self.descriptor, 0, os.SEEK_END)

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


class Follower:
    """Follows files until they are removed and read to their end. Shows nothing where `console` is None."""

    def __init__(self, console: TextIO | None) -> None:
        self._console = console
        self._is_terminal = console is not None and console.isatty()
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
        one = _Followed(prefix, path, from_end)
        with contextlib.suppress(OSError):  # too many open files: the flow run is started all the same
            one.open()
        self._followed.append(one)
        self._has_some.set()

    async def for_ever(self) -> None:
        """Read along until cancelled."""
        try:
            while await self._has_some.wait():
                self._followed = [one for one in self._followed if self._goes_on(one)]
                if not self._followed:
                    self._has_some.clear()
                await asyncio.sleep(_LOOK_UNSEEN_SECONDS if self._console is None else _LOOK_SECONDS)
        finally:
            # what was written since the last look is shown before the agent goes
            for one in [one for one in self._followed if self._goes_on(one)]:
                one.close()
            self._followed = []

    def _goes_on(self, one: _Followed) -> bool:
        """Show what is new. Return False, with the file closed, once it is gone and read to its end."""
        try:
            one.open()
        except FileNotFoundError:
            return False
        except OSError:
            return True
        assert one.descriptor is not None
        is_removed = os.fstat(one.descriptor).st_nlink == 0  # asked first: what comes later is read below
        if not self._read(one, one.descriptor):
            return True  # it writes faster than it is read: the others have their turn, and the rest comes next
        if is_removed:
            self._show(one, [one.rest] if one.rest else [])
            one.close()
            return False
        if one.seen_bytes > _MOST_BYTES:
            os.ftruncate(one.descriptor, 0)
            os.lseek(one.descriptor, 0, os.SEEK_SET)
            one.seen_bytes = 0
        return True

    def _read(self, one: _Followed, descriptor: int) -> bool:
        """Show what is new, at most so much at once; tell whether that was all."""
        if self._console is None:
            one.seen_bytes = os.lseek(descriptor, 0, os.SEEK_END)
            return True
        for _ in range(_MOST_CHUNKS):
            chunk = os.read(descriptor, _CHUNK_BYTES)
            if not chunk:
                return True
            one.seen_bytes += len(chunk)
            *lines, one.rest = (one.rest + chunk).split(b"\n")
            self._show(one, lines)
        return False

    def _show(self, one: _Followed, lines: list[bytes]) -> None:
        if self._console is None or not lines:
            return
        try:
            self._console.write("".join(f"{one.prefix}{line.decode(errors='replace')}\n" for line in lines))
            self._console.flush()
        except (BrokenPipeError, ValueError):
            self._console = None
        except OSError:
            return  # a full disk: later lines may find room
