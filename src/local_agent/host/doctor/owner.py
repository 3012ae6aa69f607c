"""Whose an instance is, and looking at it as that user where root looks.

What an instance's user may write (settings at home, the state folder, the interpreter and what it imports) is never
read, followed or run with more rights than that user's own. A user who is not known for certain is nobody, never root.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from local_agent.host.doctor.groups import groups_of
from local_agent.linux.inherited import forbid_new_privileges, leave_keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = 0

_MAX_BYTES = 1 << 20
_CHUNK_BYTES = 65536
_PATH = "/usr/local/bin:/usr/bin:/bin"
_OPEN = b"o"

# given the pid of a process at its gate, has it in a scope of its own for the length of the context
Enclosed = Callable[[int], AbstractContextManager[None]]


def _not_enclosed(_pid: int) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


class NotAskedError(Exception):
    """Something is not looked at; the text says why."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The user that an instance runs as, as the kernel knows it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def owner_of(user: str, groups: Sequence[str]) -> Owner:
    """Given User= and the groups of a service, return the user that it runs as.

    `user` is "" for root, as systemd has it. Raise NotAskedError where there is no such user.
    """
    entry = entry_of(user or "root")
    if entry is not None:
        return Owner(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups_of(entry.pw_name, groups)), entry.pw_dir)
    if user == str(os.geteuid()):  # in a container a user need not have a name
        return Owner(user, os.geteuid(), os.getegid(), tuple(os.getgroups()), os.environ.get("HOME", "/"))
    raise NotAskedError(f"this machine has no user {user}")


def entry_of(user: str) -> pwd.struct_passwd | None:
    """Given a name or a number, as User= takes either (systemd.exec(5)), return the user's entry, None without one."""
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        return None


def as_owner(
    owner: Owner,
    environ: Mapping[str, str],
    look: Callable[[], dict[str, Any]],
    seconds: float,
    enclosed: Enclosed = _not_enclosed,
) -> dict[str, Any]:
    """Have a child of root become a user and look; return what it found, which is to be taken as that user's word.

    The child has a session of its own (a terminal can be typed into by any process of its session), none of root's
    environment and keys, no way to gain privileges, and ends with the call. What it starts ends with it only where it
    is `enclosed`, as it must be for a look that runs a program of the user's: it begins when that has been entered.
    Raise NotAskedError where it does not tell within `seconds`, and whatever `enclosed` raises.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    gate, opening = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(opening)
        _be(owner, environ, look, writing, gate)
    os.close(writing)
    os.close(gate)
    try:
        with enclosed(child):
            os.write(opening, _OPEN)
            told = _read(reading, seconds)
    finally:
        os.close(opening)
        os.close(reading)
        for kill in (os.killpg, os.kill):  # it may not have got as far as a group of its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return _understood(told, owner)


def _be(
    owner: Owner, environ: Mapping[str, str], look: Callable[[], dict[str, Any]], writing: int, gate: int
) -> NoReturn:
    code = 1
    try:
        if os.read(gate, 1) != _OPEN:
            os._exit(code)
        _become(owner, environ)
        found = json.dumps(look()).encode()
        while found:
            found = found[os.write(writing, found) :]
        code = 0
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(writing, json.dumps({"fault": repr(error)}).encode())
    finally:
        os._exit(code)


def _become(owner: Owner, environ: Mapping[str, str]) -> None:
    """Leave root behind for good. The kernel then lets no other process of this user trace this one (prctl(2))."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir("/")
    os.environ.clear()
    os.environ.update({"PATH": _PATH, "HOME": owner.home, "USER": owner.name, "LANG": "C.UTF-8", **environ})
    forbid_new_privileges()
    leave_keys()
    os.setgroups(owner.groups)
    os.setresgid(owner.gid, owner.gid, owner.gid)
    os.setresuid(owner.uid, owner.uid, owner.uid)
    if os.getresuid() != (owner.uid,) * 3 or owner.uid == ROOT:
        raise PermissionError(f"this process did not become {owner.name}")


def _read(reading: int, seconds: float) -> bytes:
    """Return what the child tells; b"" where it does not come to an end in time, or tells too much."""
    until, told = time.monotonic() + seconds, b""
    while len(told) <= _MAX_BYTES:
        ready, _, _ = select.select([reading], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return b""
        chunk = os.read(reading, _CHUNK_BYTES)
        if not chunk:
            return told
        told += chunk
    return b""


def _understood(told: bytes, owner: Owner) -> dict[str, Any]:
    try:
        found = json.loads(told)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NotAskedError(f"a look at it as {owner.name} did not come to an end")
    if "fault" in found:
        raise NotAskedError(f"a look at it as {owner.name} failed: {found['fault']}")
    return found
