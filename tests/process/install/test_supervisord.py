"""A real supervisord runs the rendered conf as it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.api import Api, wait_until
from support.checkout import CHECKOUT
from support.leftovers import MARKER

pytestmark = pytest.mark.timeout(300)

# answers what the agent asks its interpreter, and is a flow run that goes on until somebody ends it
FLOW_RUN = """\
#!/bin/sh
[ "$1" = -c ] && exec echo 1.4.1
echo $$ >"$0.pid.new" && mv "$0.pid.new" "$0.pid"
exec sleep 1000
"""


@dataclass
class Supervisor:
    """A supervisord in the foreground, and its client."""

    conf: Path
    environ: dict[str, str]

    def ask(self, *words: str) -> str:
        """What supervisorctl answers; it fails for a program that is not up, and says so in words."""
        command = ["supervisorctl", "-c", str(self.conf), *words]
        return subprocess.run(command, env=self.environ, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()

    def agent_pid(self) -> int:
        """The agent's pid, or 0 while it is not running."""
        words = self.ask("status", "local-agent").split()
        return int(words[3].rstrip(",")) if words[1:2] == ["RUNNING"] else 0

    def console(self) -> str:
        """What the agent printed."""
        log = self.conf.with_name("local-agent.log")
        return log.read_text() if log.exists() else ""

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait for it. Raise AssertionError with all that was printed."""
        wait_until(condition, lambda: self.console() + self.conf.with_name("console").read_text())


@contextmanager
def _supervisord(conf: Path, environ: dict[str, str]) -> Iterator[Supervisor]:
    with (conf.with_name("console")).open("w") as console:
        command = ["supervisord", "-n", "-c", str(conf)]
        process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        try:
            yield Supervisor(conf, environ)
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """What supervisord is started with."""
    mark = {MARKER: os.environ[MARKER]}
    return {**mark, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT / "src")}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _install(environ: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "local_agent", "install", "supervisord", *arguments]
    subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL)


def test_the_agent_is_kept_running_and_its_flow_runs_are_left_alone(tmp_path: Path, environ: dict[str, str]) -> None:
    folder, python = tmp_path / "with a space", tmp_path / "python"
    python.write_text(FLOW_RUN)
    python.chmod(0o755)
    pid_file = python.with_name("python.pid")
    with Api(tmp_path / "api.db") as api:
        run = api.create_flow_run(api.create_flow("long", labels=["50% ;x"]))
        _install(
            environ,
            *("--output", str(folder), "--api", api.url, "--label", "50% ;x", "--no-hostname-label"),
            *("--launcher", "process", "--python", str(python), "--state-dir", str(tmp_path / "state")),
        )
        with _supervisord(folder / "supervisord.conf", environ) as supervisor:
            supervisor.wait_until(pid_file.exists)
            flow_run_pid = int(pid_file.read_text())
            try:
                _restarted_after_kill(supervisor)
                assert _is_alive(flow_run_pid)
                assert "stopped" in supervisor.ask("stop", "local-agent")
                assert supervisor.agent_pid() == 0
                assert _is_alive(flow_run_pid)
                assert api.state(run) == "Submitted"
            finally:
                os.kill(flow_run_pid, signal.SIGKILL)
                supervisor.wait_until(lambda: not _is_alive(flow_run_pid))


def _restarted_after_kill(supervisor: Supervisor) -> None:
    supervisor.wait_until(supervisor.agent_pid)
    first = supervisor.agent_pid()
    os.kill(first, signal.SIGKILL)
    supervisor.wait_until(lambda: supervisor.agent_pid() not in (0, first))


def test_a_wrong_setting_is_said_in_the_log(tmp_path: Path, environ: dict[str, str]) -> None:
    _install(environ, "--output", str(tmp_path / "out"), "--python", "/nowhere/python")
    with _supervisord(tmp_path / "out/supervisord.conf", environ) as supervisor:
        supervisor.wait_until(lambda: any(word in supervisor.ask("status") for word in ("EXITED", "BACKOFF", "FATAL")))
        supervisor.wait_until(lambda: "error: flag --python: there is no /nowhere/python" in supervisor.console())
