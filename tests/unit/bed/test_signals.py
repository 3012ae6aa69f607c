"""Does what a test starts hear signals, where the test run itself was started in the background of a script?"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.signals import hear_ignored_signals

_RUN = """
import subprocess, sys
from support.signals import hear_ignored_signals
hear_ignored_signals()
print(subprocess.run(["sh", "-c", f"kill -{sys.argv[1]} $$; exit 7"]).returncode)
"""


@pytest.mark.parametrize("name", ["INT", "QUIT", "HUP", "TERM", "USR1"])
def test_a_child_hears_what_the_run_ignores(name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    done = subprocess.run(
        ["sh", "-c", f"trap '' {name}; exec \"$@\"", "sh", sys.executable, "-c", _RUN, name],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert int(done.stdout) == -number


def test_this_run_itself_goes_on_ignoring() -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        hear_ignored_signals()
        signal.raise_signal(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)
