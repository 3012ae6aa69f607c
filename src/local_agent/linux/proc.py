"""What the kernel writes about a process, parsed by the kernel's own rules and as bytes (proc(5)).

A process chooses its name, its command line and its cgroup's name, and a line ends at \\n and nowhere else: text that
is split as Python splits lines ends at \\v, \\x85 and others, too, and then a process writes lines of its own.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

_UNIFIED = b"0::"
_UIDS = b"Uid:\t"
# the last is what a file of a cgroup that was removed says
_IT_IS_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV})
_GONE = (b"Z", b"X", b"x")
_START_TIME_FIELD = 19  # starttime, counted from 0 and from the state on; proc(5) counts it as 22


@dataclass(frozen=True, slots=True)
class Stat:
    """Some of /proc/PID/stat. `is_gone`: it has ended, and perhaps nobody has waited for it yet."""

    name: str
    is_gone: bool
    parent: int
    group: int
    session: int
    start_ticks: int


def cgroup_in(data: bytes) -> str:
    """Given /proc/PID/cgroup, return the path below the unified hierarchy's root, "" where it has none.

    Bytes that are no UTF-8 are kept as surrogates (PEP 383).
    """
    lines = [line for line in data.split(b"\n") if line.startswith(_UNIFIED)]
    return os.fsdecode(lines[0].removeprefix(_UNIFIED)) if len(lines) == 1 else ""


def uids_in(data: bytes) -> frozenset[int]:
    """Given /proc/PID/status, return the real, effective, saved and file system user; none where it does not say so.

    The kernel writes the line once, and escapes a newline in the process's name.
    """
    lines = [line for line in data.split(b"\n") if line.startswith(_UIDS)]
    words = lines[0].removeprefix(_UIDS).split(b"\t") if len(lines) == 1 else []
    return frozenset(map(int, words)) if len(words) == 4 and all(map(bytes.isdigit, words)) else frozenset()


def stat_in(data: bytes) -> Stat | None:
    """Given /proc/PID/stat, return what is wanted of it, None where it is no such file.

    The process's name stands in parentheses and may hold blanks, parentheses and newlines itself; what follows is
    numbers.
    """
    fields = data[data.rfind(b")") + 1 :].split()
    if len(fields) <= _START_TIME_FIELD:
        return None
    try:
        numbers = [int(fields[number]) for number in (1, 2, 3, _START_TIME_FIELD)]
    except ValueError:
        return None
    name = data[data.find(b"(") + 1 : data.rfind(b")")]
    return Stat(os.fsdecode(name), fields[0] in _GONE, *numbers)


def read(path: str) -> bytes:
    """Return a file of /proc or of a cgroup, b"" where what it tells of is gone. Raise OSError where it is not read.

    Without a buffer, in a third of pathlib's time: it is wanted for each launch, and of thousands of processes.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - see above
            return file.readall() or b""
    except OSError as error:
        if error.errno in _IT_IS_GONE:
            return b""
        raise
