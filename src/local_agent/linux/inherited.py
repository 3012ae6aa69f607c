"""What a process inherits beside its user, and leaves behind before it runs what another user may have written."""

from __future__ import annotations

import ctypes
import errno
import os

_PR_SET_NO_NEW_PRIVS = 38  # prctl(2), from linux/prctl.h
_JOIN_SESSION_KEYRING = 1  # keyctl(2), from linux/keyctl.h
# the C library has no function for it; the number is each architecture's own, but for the newer ones
_KEYCTL = {
    "x86_64": 250, "i686": 288, "armv6l": 311, "armv7l": 311, "ppc64le": 271, "s390x": 280, "mips64": 5241,
    "aarch64": 219, "riscv64": 219, "loongarch64": 219,
}  # fmt: skip
# a kernel without keys; a container whose filter lets nothing in it ask for keys
_NO_KEYS_HERE = (errno.ENOSYS, errno.EPERM)


def forbid_new_privileges() -> None:
    """Let no program that this process becomes or starts gain anything: no setuid, no setgid. Raise OSError."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS) failed")


def leave_keys() -> None:
    """Take an empty session keyring: whoever has one may read its keys, whatever the user (session-keyring(7)).

    Another user alone does not leave it. Raise OSError where the keys of whoever started this would stay in reach.
    """
    number = _KEYCTL.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"it is not known how keys are left behind on {os.uname().machine}")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, _JOIN_SESSION_KEYRING, None) == -1 and ctypes.get_errno() not in _NO_KEYS_HERE:
        raise OSError(ctypes.get_errno(), "keyctl(KEYCTL_JOIN_SESSION_KEYRING) failed")
