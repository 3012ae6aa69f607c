"""Reading files that another user may have made, or put something else in the place of.

Whoever may write to a folder can put there a link to any file, a pipe that nobody writes to, or a gigabyte of nothing.
Followed, waited for or read whole, it stops the program that only wanted to look.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


def read_regular(path: str | Path, most_bytes: int, *, inside: int | None = None) -> bytes:
    """Given a path, return the content of the regular file there. `inside` is the descriptor of the path's folder.

    A link is not followed, nothing is waited for, and no more than `most_bytes` are read. Raise OSError where it cannot
    be read, is no regular file or is larger.
    """
    descriptor = os.open(path, _FLAGS, dir_fd=inside)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return _read(descriptor, most_bytes, str(path))
    finally:
        os.close(descriptor)


def _read(descriptor: int, most_bytes: int, path: str) -> bytes:
    """Count what is read, not what the file's size says: it may grow, and one in /proc has none."""
    chunks, left = [], most_bytes + 1
    while left > 0 and (chunk := os.read(descriptor, left)):
        chunks.append(chunk)
        left -= len(chunk)
    if left <= 0:
        raise OSError(errno.EFBIG, f"it has more than {most_bytes} bytes", path)
    return b"".join(chunks)


def open_folder(path: str | Path) -> int:
    """Given a path, return a descriptor of the folder there. A link is not followed. Raise OSError."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
