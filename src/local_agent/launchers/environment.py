"""A flow run's environment on its way to the process that has it: in memory, on a descriptor, never in an argument.

Anybody may read the arguments of a process (proc(5)), and a shell changes what it passes on.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
from typing import TYPE_CHECKING

from local_agent.errors import LaunchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# gone once the flow run's process has read the rest: shim.sh, enter.pl
_BEFORE_WORDS, _BEFORE_ENTRIES = b"# words of a shell follow, not read yet\n", b"# entries follow, not read yet\n"
# what dash takes as a variable and passes on as it is, but for those that it keeps for itself (dash(1))
_PLAIN_NAMES = re.compile(r"(?:(?!(?:LINENO|OPTIND|PPID)=)[A-Za-z_][A-Za-z0-9_]*=)*")
_MAX_ENTRY_BYTES = 32 * 4096 - 1  # MAX_ARG_STRLEN without its NUL (execve(2))
_MIN_STACK_BYTES, _MAX_STACK_BYTES = 4 * 128 * 1024, 4 * 6 * 1024 * 1024  # of which execve(2) uses a quarter
_POINTER_BYTES = 8
_NUL = "\0"
_QUOTE, _ESCAPED_QUOTE = "'", "'\\''"
_ROOM_FOR_ARGUMENTS_BYTES = 16 * 1024
_MFD_NOEXEC_SEAL = 0x8  # Linux 6.3, and needed where vm.memfd_noexec is 2
_HINT = "check the variables that the flow run asks for, and this agent's"


def is_plain(env: Mapping[str, str]) -> bool:
    """Tell whether a dash takes each variable and passes it on as it is."""
    # of all at once: for each launch there are dozens
    names, texts = "=".join((*env, "")), "".join(env.values())
    all_are_names = names.count("=") == len(env) and _PLAIN_NAMES.fullmatch(names) is not None
    return all_are_names and texts.isascii() and _NUL not in texts


def environment_file(env: Mapping[str, str], *, for_shell: bool) -> int:
    """Return the descriptor of a file in memory that holds an environment, for the caller to close.

    It holds the shell's words that export it, or each variable with a NUL after it (shim.sh, enter.pl). Raise
    LaunchError where no process can have it, OSError where there is no memory or no descriptor.
    """
    text = _BEFORE_WORDS + _shell_words(env) if for_shell else _BEFORE_ENTRIES + _block(env)
    descriptor = _memory_file()
    try:
        _write(descriptor, text)
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
    entries = {name: _encoded(name, text) for name, text in env.items()}
    _check_sizes((name, len(entry)) for name, entry in entries.items())
    return b"".join(entry + b"\0" for entry in entries.values())


def _shell_words(env: Mapping[str, str]) -> bytes:
    """Return the words that export each variable; all are plain. Raise LaunchError."""
    words = "".join([f"export {name}='{text}'\n" for name, text in _escaped(env).items()])
    if not _fits_for_sure(len(words), len(env)):
        _check_sizes((name, len(name) + 1 + len(text)) for name, text in env.items())
    return words.encode()


def _escaped(env: Mapping[str, str]) -> Mapping[str, str]:
    """Return an environment whose texts may stand between quotes."""
    if _QUOTE not in "".join(env.values()):
        return env
    return {name: text.replace(_QUOTE, _ESCAPED_QUOTE) for name, text in env.items()}


def _encoded(name: str, text: str) -> bytes:
    try:
        entry = os.fsencode(f"{name}={text}")
    except UnicodeEncodeError as error:
        raise LaunchError(f"cannot start the flow run: its variable {name!r} is no text", hint=_HINT) from error
    if "=" in name or b"\0" in entry:
        raise LaunchError(f"cannot start the flow run: no process has an environment variable {name!r}", hint=_HINT)
    return entry


def _fits_for_sure(length: int, count: int) -> bool:
    """Tell whether any Linux takes so many variables, given at least the bytes of all with a NUL after each."""
    return _ROOM_FOR_ARGUMENTS_BYTES + length + count * _POINTER_BYTES <= _MIN_STACK_BYTES // 4


def _check_sizes(entries: Iterable[tuple[str, int]]) -> None:
    """Given the name of each variable and the bytes of its NAME=VALUE, raise LaunchError where that is too much."""
    sum_bytes = 0
    needed_bytes = _ROOM_FOR_ARGUMENTS_BYTES
    for name, count in entries:
        if count > _MAX_ENTRY_BYTES:
            raise LaunchError(
                f"cannot start the flow run: its environment variable {name} has {count} bytes, "
                f"Linux takes at most {_MAX_ENTRY_BYTES}",
                hint=_HINT,
            )
        sum_bytes += count
        needed_bytes += count + 1 + _POINTER_BYTES
    if needed_bytes > _most_bytes():
        raise LaunchError(
            f"cannot start the flow run: its environment has {sum_bytes} bytes, "
            f"Linux takes at most {_most_bytes()} with what goes along",
            hint=_HINT,
        )


def _most_bytes() -> int:
    soft = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = _MAX_STACK_BYTES if soft == resource.RLIM_INFINITY else soft
    return min(max(stack, _MIN_STACK_BYTES), _MAX_STACK_BYTES) // 4
