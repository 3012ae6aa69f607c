"""A flow run's environment on its way to the process that has it: in memory, on a descriptor, never in an argument.

Anybody may read the arguments of a process (proc(5)), and a shell changes what it passes on.
"""

from __future__ import annotations

import contextlib
import os
import resource
from typing import TYPE_CHECKING

from local_agent.errors import LaunchError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST_LINE = b"the flow run has not begun\n"  # gone once its process has read the rest: shim.sh, enter.pl
_MOST_ENTRY_BYTES = 32 * 4096 - 1  # MAX_ARG_STRLEN without its NUL (execve(2))
_LEAST_STACK_BYTES, _MOST_STACK_BYTES = 4 * 128 * 1024, 4 * 6 * 1024 * 1024  # of which execve(2) uses a quarter
_POINTER_BYTES = 8
_ROOM_FOR_ARGUMENTS_BYTES = 16 * 1024
_MFD_NOEXEC_SEAL = 0x8  # Linux 6.3, and needed where vm.memfd_noexec is 2
_HINT = "check the env of the flow's run config and of this agent"


def environment_file(env: Mapping[str, str]) -> int:
    """Return the descriptor of a file in memory that holds an environment, for the caller to close.

    Raise LaunchError where no process can have it, OSError where there is no memory or no descriptor.
    """
    block = _block(env)
    descriptor = _memory_file()
    try:
        _write(descriptor, _FIRST_LINE + block)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _write(descriptor: int, text: bytes) -> None:
    """Write all of it, and leave the offset, which the readers share, at the beginning."""
    written = 0
    while written < len(text):
        written += os.pwrite(descriptor, text[written:], written)


def _memory_file() -> int:
    with contextlib.suppress(OSError):  # an older kernel does not know the flag
        return os.memfd_create("environment", os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
    return os.memfd_create("environment", os.MFD_CLOEXEC)


def _block(env: Mapping[str, str]) -> bytes:
    """Return NAME=VALUE and a NUL for each variable. Raise LaunchError."""
    entries = []
    for name, text in env.items():
        entry = _encoded(name, text)
        if "=" in name or b"\0" in entry:
            raise LaunchError(f"cannot start the flow run: no process has an environment variable {name!r}", hint=_HINT)
        if len(entry) > _MOST_ENTRY_BYTES:
            raise LaunchError(
                f"cannot start the flow run: its environment variable {name} has {len(entry)} bytes, "
                f"Linux takes at most {_MOST_ENTRY_BYTES}",
                hint=_HINT,
            )
        entries.append(entry + b"\0")
    block = b"".join(entries)
    needed_bytes = len(block) + len(entries) * _POINTER_BYTES + _ROOM_FOR_ARGUMENTS_BYTES
    if needed_bytes > _most_bytes():
        raise LaunchError(
            f"cannot start the flow run: its environment has {len(block)} bytes, "
            f"Linux takes at most {_most_bytes()} with what goes along",
            hint=_HINT,
        )
    return block


def _encoded(name: str, text: str) -> bytes:
    try:
        return os.fsencode(f"{name}={text}")
    except UnicodeEncodeError as error:
        raise LaunchError(f"cannot start the flow run: its variable {name!r} is no text", hint=_HINT) from error


def _most_bytes() -> int:
    soft = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = _MOST_STACK_BYTES if soft == resource.RLIM_INFINITY else soft
    return min(max(stack, _LEAST_STACK_BYTES), _MOST_STACK_BYTES) // 4
