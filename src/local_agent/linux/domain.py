"""A domain of Landlock for each flow run: what is in one neither traces nor signals what is outside (landlock(7)).

One user's processes may otherwise trace each other: a flow run would get code into whatever its agent starts, for as
long as that is in the agent's cgroup, and into an agent that starts. Who is in a domain may trace what is in it and
nothing else. A domain must restrict something beside, and of all there is signals cost flows the least: they signal
their own processes. It needs Linux 6.12, and that no privileges can be gained. Root's flow runs have none: they may do
everything anyway.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Started = TypeVar("_Started")

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the C library has no functions for them
_SCOPE_SIGNAL = 1 << 1
# struct landlock_ruleset_attr: rights to files, rights to the network, scopes. A kernel that knows no scopes refuses it
_RULESET = struct.pack("QQQ", 0, 0, _SCOPE_SIGNAL)


def started_apart(start: Callable[[], _Started]) -> _Started:
    """Call what starts a process, which is then in a domain of its own; where there are none, it is in none.

    A domain is a thread's, and inherited. Raise what `start` raises, OSError where there can be no thread.
    """
    if os.geteuid() == 0:
        return start()
    done: list[_Started] = []
    failed: list[BaseException] = []

    def run() -> None:
        _enter_domain()
        try:
            done.append(start())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="start")
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def has_domains() -> bool:
    """Tell whether this kernel has such domains, and lets this process ask."""
    ruleset = _ruleset(ctypes.CDLL(None))
    if ruleset >= 0:
        os.close(ruleset)
    return ruleset >= 0


def _enter_domain() -> None:
    """Have the calling thread in a new domain; without one it goes on as it is."""
    libc = ctypes.CDLL(None)
    ruleset = _ruleset(libc)
    if ruleset >= 0:
        libc.syscall(_RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)


def _ruleset(libc: ctypes.CDLL) -> int:
    return int(libc.syscall(_CREATE_RULESET, _RULESET, ctypes.c_size_t(len(_RULESET)), 0))
