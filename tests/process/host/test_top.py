"""`local-agent top` on a terminal: its screen, its keys, and the terminal as it was before."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from support.checkout import CHECKOUT

_SECONDS = 60


@pytest.mark.parametrize(("ended_by", "code"), [("q", 0), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_it_takes_the_terminal_and_gives_it_back(ended_by: str, code: int, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environ = {**os.environ, "PYTHONPATH": str(CHECKOUT / "src"), "XDG_STATE_HOME": str(tmp_path), "COLUMNS": "90"}
    try:
        before = termios.tcgetattr(theirs)
        command = [sys.executable, "-m", "local_agent", "top", "--delay", "30"]
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
        try:
            shown = _read_until(ours, "q: quit")
            if ended_by == "q":
                os.write(ours, b"mq")
            else:
                process.send_signal(signal.Signals[ended_by])
            shown += _read_until(ours, "\x1b[?1049l")
            assert process.wait(_SECONDS) == code
        finally:
            process.kill()
            process.wait()
        assert shown.startswith("\x1b[?1049h")
        assert "MEMORY" in shown
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)


def _read_until(terminal: int, text: str) -> str:
    read = ""
    while text not in read:
        read += os.read(terminal, 4096).decode(errors="replace")
    return read


def test_a_pipe_gets_one_look(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(CHECKOUT / "src"), "XDG_STATE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "local_agent", "top", "--delay", "0.2"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "all: " in done.stdout
