"""State folders of agents that are no packaged instances, found by what runs: agents, and the shims of flow runs.

An agent may be in a unit of any name, under supervisord or in a terminal, as any user, and its state folder anywhere.
Root finds it by the lock that its process holds open; others see such descriptors of nobody, their own agents included
(dumps.py), and go by the command line. What a process says of itself costs nobody but its user: a folder counts if it
belongs to the process's user, and of each user no more than a few are looked at.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import ExhaustedError
from local_agent.host.reading.agents import StateFolder
from local_agent.launchers.own_service import unit_in
from local_agent.linux import proc, procfs
from local_agent.linux.untrusted import open_folder
from local_agent.plain import printable
from local_agent.units.names import instance_served_by, is_instance

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MAX_BYTES = 4096  # of a command line; the flags that matter stand at its beginning
_MAX_DESCRIPTORS = 200  # the lock is among the first that an agent opens
_MAX_OF_A_USER = 16
_MAX_IN_ALL = 200
_PROGRAM = re.compile(r"(?:.*/)?local-agent")
_PYTHON = re.compile(r"(?:.*/)?python[0-9.]*")
_SHIM = "/launchers/shim.sh"
_BASE = re.compile(r"(/.*)/runs/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.DOTALL)
_LOCK = "lock"
# names of folders become commands that root is told to type, and their makers may be anybody
_TYPEABLE = re.compile(r"/[A-Za-z0-9_.:@+=,/-]+")


@dataclass(frozen=True, slots=True)
class _Trace:
    """A process, its user, the state folder that it seems to be about; `lock` is the file that it holds open there."""

    pid: int
    uid: int
    path: str
    lock: tuple[int, int] | None = None
    is_agent: bool = True


def found_folders(uid: int, known: Sequence[StateFolder]) -> list[StateFolder]:
    """Given who looks and the state folders that are known, return those, and those that processes show beyond them.

    Root finds every user's, others their own.
    """
    seen = {_number_of(folder.path): number for number, folder in enumerate(known)}
    folders = list(known)
    for trace in _bounded(_traces(uid)):
        number = _verified(trace)
        if number is None:
            continue
        pid = trace.pid if trace.is_agent else 0
        if number not in seen:
            seen[number] = _add(folders, trace, _packaged(pid) if pid else "", uid)
        place = seen[number]
        folders[place] = replace(folders[place], pid=folders[place].pid or pid)
    return folders


def _add(folders: list[StateFolder], trace: _Trace, packaged: str, uid: int) -> int:
    """Put a folder among those that are known; return its place there.

    A packaged instance that was given another folder has none where it usually lies, or an empty one.
    """
    path = Path(trace.path)
    if packaged:
        place = next((number for number, one in enumerate(folders) if one.instance == packaged), len(folders))
        folders[place : place + 1] = [StateFolder(packaged, path, trace.uid)]
        return place
    folders.append(StateFolder(_name_of(trace, uid, folders), path, trace.uid, is_anybodys=trace.uid != uid))
    return len(folders) - 1


def _packaged(pid: int) -> str:
    """Return the instance whose packaged service a process is in, "" where it is in none."""
    with contextlib.suppress(ExhaustedError):
        unit, is_users = unit_in(procfs.cgroup_of(pid))
        instance = instance_served_by(unit)
        return instance if is_instance(instance) and not is_users else ""
    return ""


def is_agent(words: Sequence[str]) -> bool:
    """Given a command line, tell whether it is an agent's: `local-agent start`, by itself or run by Python."""
    return arguments_in(words) is not None


def arguments_in(words: Sequence[str]) -> list[str] | None:
    """Given a command line, return what stands after `local-agent start`, None where it is no agent's."""
    rest = list(words)
    if rest and _PYTHON.fullmatch(rest[0]):
        rest = rest[1:]
        while rest and rest[0].startswith("-") and rest[0] != "-m":
            rest = rest[1:]
        if rest[:2] == ["-m", "local_agent"]:
            rest = ["local-agent", *rest[2:]]
    if len(rest) > 1 and _PROGRAM.fullmatch(rest[0]) and rest[1] == "start":
        return rest[2:]
    return None


def _traces(uid: int) -> Iterator[_Trace]:
    for pid in sorted(procfs.pids()):
        words = procfs.command_of(pid, _MAX_BYTES)
        if is_agent(words):
            owner = _user_of(pid)
            if owner is not None and uid in (0, owner):
                yield from _locked(pid, owner) if uid == 0 else _named(pid, owner, words)
        elif len(words) > 2 and words[1].endswith(_SHIM) and (base := _BASE.fullmatch(words[2])):
            owner = _user_of(pid)
            if owner is not None and uid in (0, owner):
                yield _Trace(pid, owner, base.group(1), is_agent=False)


def _bounded(traces: Iterable[_Trace]) -> Iterator[_Trace]:
    """Leave out what is more of one user than anybody has; a folder's many shims count once."""
    of_user: Counter[int] = Counter()
    seen = set()
    for trace in traces:
        if (trace.uid, trace.path, trace.is_agent) in seen:
            continue
        seen.add((trace.uid, trace.path, trace.is_agent))
        of_user[trace.uid] += 1
        if of_user[trace.uid] <= _MAX_OF_A_USER and of_user.total() <= _MAX_IN_ALL:
            yield trace


def _user_of(pid: int) -> int | None:
    """Return whose a process is, None where it is gone or of several users: /proc/PID itself is root's for an agent."""
    try:
        uids = proc.uids_in(proc.read(f"/proc/{pid}/status"))
    except OSError:
        return None
    return next(iter(uids)) if len(uids) == 1 else None


def _locked(pid: int, owner: int) -> Iterator[_Trace]:
    """Return the folders in which an agent holds a lock."""
    folder = f"/proc/{pid}/fd"
    try:
        numbers = sorted(map(int, os.listdir(folder)))[:_MAX_DESCRIPTORS]  # noqa: PTH208 - numbers, not paths
    except OSError:
        return
    for number in numbers:
        with contextlib.suppress(OSError):
            target = os.readlink(f"{folder}/{number}")  # noqa: PTH115 - of any process's any descriptor
            if target.startswith("/") and target.endswith(f"/{_LOCK}"):
                status = os.stat(f"{folder}/{number}")  # noqa: PTH116 - as above
                yield _Trace(pid, owner, target.removesuffix(f"/{_LOCK}"), (status.st_dev, status.st_ino))


def _named(pid: int, owner: int, words: Sequence[str]) -> Iterator[_Trace]:
    """Return the state folder that a command line names."""
    for number, word in enumerate(words):
        given = words[number + 1 : number + 2] if word == "--state-dir" else [word.partition("=")[2]]
        if word.partition("=")[0] == "--state-dir" and given and given[0].startswith("/"):
            yield _Trace(pid, owner, given[0])


def _verified(trace: _Trace) -> tuple[int, int] | None:
    """Return the number of a folder's file, None where it is none, another user's, or not what the process has open."""
    if not _TYPEABLE.fullmatch(trace.path):
        return None
    try:
        folder = open_folder(trace.path)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(folder)
        is_its = status.st_uid == trace.uid and (trace.lock is None or _lock_in(folder) == trace.lock)
    except OSError:
        return None
    else:
        return (status.st_dev, status.st_ino) if is_its else None
    finally:
        os.close(folder)


def _lock_in(folder: int) -> tuple[int, int]:
    status = os.stat(_LOCK, dir_fd=folder, follow_symlinks=False)
    return status.st_dev, status.st_ino


def _number_of(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino


def _name_of(trace: _Trace, uid: int, others: Sequence[StateFolder]) -> str:
    """Name an agent for people: NAME where it is one's own, USER/NAME else; the whole folder where that is taken."""
    name, taken = printable(Path(trace.path).name), {folder.instance for folder in others}
    label = name if trace.uid == uid and name not in taken else f"{user_name(trace.uid)}/{name}"
    return f"{user_name(trace.uid)}:{printable(trace.path)}" if label in taken else label


def user_name(uid: int) -> str:
    """Return a user's name, its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def owner_name(path: Path) -> str:
    """Return the name of a file's owner, "" where that cannot be told."""
    try:
        return user_name(path.stat().st_uid)
    except OSError:
        return ""
