"""What runs the engine of Prefect 3, with an engine that says what it is told: no version of Prefect is needed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from local_agent.backends.prefect3 import boot

_BOOT = Path(boot.__file__)
_ENOUGH_SECONDS = 50.0

# it connects as the real one does, and writes down what it is told and when the signal comes
_ENGINE = """
import os, signal, socket, sys, threading, time
import pool
lines = os.open("lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(text): os.write(lines, f"{text}\\n".encode())
def ended(*_):
    note("signal")
    while os.path.exists("wait"): time.sleep(0.01)
    note("hooks")
    raise SystemExit(3)
signal.signal(signal.SIGTERM, ended)
note(f"main {__name__} {sys.argv[1:]} {pool.__file__}")
how = os.environ["HOW"]
take = os.environ.get if how == "old" else os.environ.pop
port, token = take("PREFECT__CONTROL_PORT"), take("PREFECT__CONTROL_TOKEN")
note(f"port {port}")
if how != "old":
    while not os.path.exists("connect"): time.sleep(0.01)
    connection = socket.create_connection(("127.0.0.1", int(port)))
    connection.sendall(f"{token}\\n".encode() + b"\\0PF\\2\\1")
    note("connected")
    while (said := connection.recv(1)) != b"c": note(f"odd {said}")
    note("told")
    connection.sendall(b"a") if how == "new" else connection.close()
signal.pause()
"""


class Booted:
    """A process of our boot."""

    def __init__(self, folder: Path, how: str) -> None:
        self._folder = folder
        self._control = folder / "control"
        (folder / "prefect").mkdir()
        (folder / "prefect/__init__.py").touch()
        (folder / "prefect/engine.py").write_text(_ENGINE)
        (folder / "pool.py").touch()  # beside the boot there is another one
        os.mkfifo(self._control, 0o600)
        env = {"LOCAL_AGENT_CONTROL": str(self._control), "HOW": how, "PATH": os.environ["PATH"]}
        self.process = subprocess.Popen([sys.executable, _BOOT], cwd=folder, env=env, stdin=subprocess.DEVNULL)

    def wait_for(self, line: str) -> str:
        """Wait for a line that begins so, and return the rest of it."""
        until = time.monotonic() + _ENOUGH_SECONDS
        while not (found := [one for one in self.lines if one.startswith(line)]):
            assert time.monotonic() < until, self.lines
            time.sleep(0.02)
        return found[0].removeprefix(line).strip()

    @property
    def lines(self) -> Sequence[str]:
        """What the engine has written down."""
        path = self._folder / "lines"
        return path.read_text().splitlines() if path.exists() else []

    def let_connect(self) -> None:
        """Let the engine connect, and return when it has its place: then nobody else is listened to."""
        port = int(self.wait_for("port"))
        (self._folder / "connect").touch()
        until = time.monotonic() + _ENOUGH_SECONDS
        with contextlib.suppress(ConnectionError):
            while True:
                socket.create_connection(("127.0.0.1", port)).close()
                assert time.monotonic() < until, self.lines
                time.sleep(0.05)

    def interrupt(self) -> None:
        """Write the word, as an agent does."""
        pipe = os.open(self._control, os.O_WRONLY | os.O_NONBLOCK)
        os.write(pipe, b"c")
        os.close(pipe)

    def ended(self) -> int:
        """Return the exit code."""
        return self.process.wait(_ENOUGH_SECONDS)


@contextmanager
def booted(folder: Path, how: str = "new") -> Iterator[Booted]:
    one = Booted(folder, how)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()


def test_the_engine_is_the_main_program_and_imports_from_its_own_folder(tmp_path: Path) -> None:
    with booted(tmp_path) as one:
        assert one.wait_for("main") == f"__main__ [] {tmp_path}/pool.py"


def test_the_engine_is_told_why_before_the_signal_comes(tmp_path: Path) -> None:
    with booted(tmp_path) as one:
        one.let_connect()
        one.interrupt()
        assert one.ended() == 3
    assert one.lines[-4:] == ["connected", "told", "signal", "hooks"]


def test_a_second_word_does_not_disturb_the_hooks(tmp_path: Path) -> None:
    hooks_wait = tmp_path / "wait"
    hooks_wait.touch()
    with booted(tmp_path) as one:
        one.let_connect()
        one.interrupt()
        one.wait_for("signal")
        one.interrupt()
        hooks_wait.unlink()
        assert one.ended() == 3
    assert one.lines.count("signal") == one.lines.count("hooks") == 1


@pytest.mark.parametrize("how", ["old", "mute"])
def test_an_engine_that_does_not_answer_gets_the_signal(tmp_path: Path, how: str) -> None:
    with booted(tmp_path, how) as one:
        if how == "old":
            one.wait_for("port")
        else:
            one.let_connect()
        one.interrupt()
        assert one.ended() == 3
    assert one.lines[-2:] == ["signal", "hooks"]


def test_nobody_takes_the_engines_place(tmp_path: Path) -> None:
    """Any user of the machine may connect to a port of loopback, be silent there or guess."""
    with booted(tmp_path) as one:
        port = int(one.wait_for("port"))
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)) as guesser:
            guesser.sendall(b"0" * 32 + b"\n")
            one.let_connect()
            guesser.settimeout(_ENOUGH_SECONDS)
            assert guesser.recv(1) == b"", "it was turned away"
            one.interrupt()
            assert one.ended() == 3
    assert one.lines[-3:] == ["told", "signal", "hooks"]


def test_without_a_pipe_there_is_only_the_engine(tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect/__init__.py").touch()
    (tmp_path / "prefect/engine.py").write_text(
        "import os; print(sorted(os.environ.keys() & {'PREFECT__CONTROL_PORT'}))"
    )
    done = subprocess.run([sys.executable, _BOOT], cwd=tmp_path, env={}, check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout == "[]\n"
