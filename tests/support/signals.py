"""Signals as the programs under test expect them, however the test run itself was started."""

from __future__ import annotations

import signal
from types import FrameType

# Python ignores these itself, and gives them back to the processes that it starts
_PYTHONS_OWN = frozenset({signal.SIGPIPE, signal.SIGXFSZ})


def hear_ignored_signals() -> None:
    """Have the processes that this one starts hear each signal that this one was started to ignore.

    A shell starts what it puts into the background with SIGINT and SIGQUIT ignored, nohup does so with SIGHUP, and
    what is ignored is inherited: an agent under test would not hear Ctrl-C. A handler is not inherited. So this process
    goes on to ignore them, by a handler that does nothing, and its children have the default. Some masks are inherited,
    too: nothing stays blocked.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - _PYTHONS_OWN:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _do_nothing)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Take the place of SIG_IGN."""
