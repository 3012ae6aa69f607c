"""What a cgroup counts, from its files (cgroups(7), the kernel's cgroup-v2.rst). Everybody may read them."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from local_agent.errors import ExhaustedError

ROOT = Path("/sys/fs/cgroup")
_USEC = 1_000_000
_CHUNK_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Figures:
    """What a cgroup and everything below it use now; None where nothing counts it, or there is no limit."""

    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    memory_limit_bytes: int | None = None
    tasks: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    is_frozen: bool = False


def read_figures(path: Path) -> Figures:
    """Given a cgroup's folder, return its figures; none where it is gone."""
    folder = str(path)
    usage = _keyed(f"{folder}/cpu.stat").get("usage_usec")
    return Figures(
        cpu_seconds=int(usage) / _USEC if usage is not None else None,
        memory_bytes=_number(f"{folder}/memory.current"),
        memory_peak_bytes=_number(f"{folder}/memory.peak"),
        memory_limit_bytes=_number(f"{folder}/memory.max"),
        tasks=_tasks(folder),
        read_bytes=_io_sum(folder, "rbytes"),
        written_bytes=_io_sum(folder, "wbytes"),
        is_frozen=_keyed(f"{folder}/cgroup.events").get("frozen") == "1",
    )


def is_there(folder: Path) -> bool:
    """Tell whether a cgroup can be asked for its events here."""
    return bool(_lines(f"{folder}/cgroup.events"))


def is_empty(folder: Path) -> bool:
    """Given the folder of a cgroup that was there, tell whether no process is in it or below it any more.

    Raise ExhaustedError where that cannot be told now.
    """
    try:
        with open(f"{folder}/cgroup.events") as events:  # noqa: PTH123 - pathlib interns the name of every run
            return "populated 0\n" in events.read()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return True
        raise ExhaustedError(f"cannot look into {folder}: {error.strerror}") from error


def _tasks(folder: str) -> int | None:
    """Without the pids controller the threads of the cgroup itself are counted, which is where a flow run's are."""
    counted = _number(f"{folder}/pids.current")
    return counted if counted is not None else len(_lines(f"{folder}/cgroup.threads")) or None


def _number(path: str) -> int | None:
    """Return a file's one number; None for "max" and where it is missing."""
    text = "".join(_lines(path))
    return int(text) if text.isdigit() else None


def _keyed(path: str) -> dict[str, str]:
    return dict(line.partition(" ")[::2] for line in _lines(path))


def _io_sum(folder: str, key: str) -> int | None:
    """Sum one figure over all devices; a line is `8:0 rbytes=1 wbytes=2 ...`."""
    words = [word for line in _lines(f"{folder}/io.stat") for word in line.split()]
    values = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return sum(int(value) for value in values) if values else None


def _lines(path: str) -> list[str]:
    """Read without a buffer and a decoder: of 500 cgroups eight files each are wanted at once."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        chunks = iter(lambda: os.read(descriptor, _CHUNK_BYTES), b"")
        return b"".join(chunks).decode().splitlines()
    except OSError:
        return []
    finally:
        os.close(descriptor)
