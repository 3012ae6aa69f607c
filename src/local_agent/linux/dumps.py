"""Keeping other processes of the agent's own user out of the agent."""

from __future__ import annotations

import ctypes

_PR_SET_DUMPABLE = 4  # prctl(2), from linux/prctl.h


def forbid() -> None:
    """Let no other process of this user trace this one, read its memory or environment, or take its descriptors.

    Flow runs have the agent's user. It leaves no core dump either, in which its key would be. What it starts is not
    bound by it: the kernel takes it back when a program is executed. Raise OSError where the kernel refuses.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) failed")
