"""A foreground agent whose terminal is closed ends; elsewhere SIGHUP reloads."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local_agent.net import control
from support.agent import AgentProcess, is_alive
from support.api_client import wait_until

_NO_API = "http://127.0.0.1:9"


class OnTerminal:
    """An agent in the foreground of a terminal of its own."""

    def __init__(self, agent: AgentProcess, ours: int, process: subprocess.Popen[bytes]) -> None:
        self.agent = agent
        self._ours = ours
        self.process = process

    def close_the_terminal(self) -> None:
        """Hang up."""
        os.close(self._ours)
        self._ours = -1

    def close(self) -> None:
        """End all of it."""
        if self._ours >= 0:
            self.close_the_terminal()
        self.process.kill()
        self.process.wait()

    @property
    def pid(self) -> int:
        """The agent's, which may run under a shell."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else self.process.pid

    def wait_until_up(self) -> None:
        """Wait for its control socket."""
        wait_until(lambda: (self.agent.state_dir / "control").exists(), lambda: "it did not start")
        assert control.ask(self.agent.state_dir, "status")


@contextmanager
def _on_terminal(folder: Path, *before: str) -> Iterator[OnTerminal]:
    ours, its = os.openpty()
    agent = AgentProcess(folder / "agent", _NO_API)
    log = folder / "log"

    def lead() -> None:  # the terminal becomes that of the new session
        fcntl.ioctl(its, termios.TIOCSCTTY, 0)

    with log.open("w") as output:
        process = subprocess.Popen(
            [*before, *agent.command],
            env=agent.environment,
            stdin=its,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=lead,
        )
    os.close(its)
    one = OnTerminal(agent, ours, process)
    try:
        one.wait_until_up()
        yield one
    finally:
        one.close()


@pytest.mark.parametrize("before", [(), ("sh", "-c", '"$@"; exit', "sh")], ids=["by itself", "under a shell"])
def test_closing_the_terminal_ends_it(tmp_path: Path, before: tuple[str, ...]) -> None:
    with _on_terminal(tmp_path, *before) as one:
        pid = one.pid
        one.close_the_terminal()
        wait_until(lambda: not is_alive(pid), (tmp_path / "log").read_text)
        assert "Stopping because of SIGHUP: its terminal was closed" in (tmp_path / "log").read_text()


def test_under_nohup_it_goes_on(tmp_path: Path) -> None:
    with _on_terminal(tmp_path, "nohup") as one:
        one.close_the_terminal()
        os.kill(one.process.pid, signal.SIGUSR1)
        assert control.ask(one.agent.state_dir, "status")
        assert control.ask(one.agent.state_dir, "poke") == "polling now"


def test_while_the_terminal_is_open_sighup_reloads(tmp_path: Path) -> None:
    with _on_terminal(tmp_path) as one:
        os.kill(one.process.pid, signal.SIGHUP)
        wait_until(lambda: "Settings read again" in (tmp_path / "log").read_text(), (tmp_path / "log").read_text)


def test_without_a_terminal_sighup_reloads(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "agent", _NO_API, wrapper=(sys.executable, "-c", _IN_A_SESSION)) as agent:
        agent.wait_until_up()
        agent.send(signal.SIGHUP)
        agent.wait_for("Settings read again")


_IN_A_SESSION = "import os, subprocess, sys; os.setsid(); sys.exit(subprocess.call(sys.argv[1:]))"
