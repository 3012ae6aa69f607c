"""A Debian that boots on this machine for a test: systemd as its PID 1, this checkout's agent and units installed.

Its root is an overlay over the cached root file system, in memory and in a mount namespace of its own: when its
processes are gone, so is all they wrote. They end with the process that booted it, even when that is killed.
What then still lies around (a folder under /run, an empty cgroup) is removed when the next machine boots.

It shares this machine's network: give every server a free port, and reach it at 127.0.0.1 from both sides.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from support.container import Container
from support.debian import AGENT_PYTHON, FLOWS_PYTHON, RELEASES

Completed = subprocess.CompletedProcess[str]
Command = str | Sequence[str]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"

# everything that a test of the agent leaves inside; what is not there is no failure
_RESET = """\
systemctl stop 'local-agent*' 'flow-run-*.scope'
systemctl stop flowruns.slice
rm -rf /var/lib/local-agent* /var/lib/private/local-agent* /run/local-agent* /etc/local-agent
rm -rf /etc/systemd/system/local-agent* /etc/systemd/system/*.wants/local-agent*
rm -rf /etc/systemd/system/flowruns* /etc/systemd/system.control/*
systemctl daemon-reload
systemctl reset-failed
systemd-tmpfiles --create
"""


class Machine:
    """A booted Debian 12 or 13, until the end of its `with` block. Commands run in it as root."""

    agent_python = AGENT_PYTHON
    flows_python = FLOWS_PYTHON

    def __init__(self, release: int, container: Container | None = None) -> None:
        """Given the release's number, and another container than one with this checkout's agent installed."""
        self.release = release
        self._container = container or Container(RELEASES[release].root, f"debian{release}")
        self._spawned: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        self._container.start()
        self.run("systemd-sysusers && systemd-tmpfiles --create && journalctl --update-catalog")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_spawned()
        self._container.stop()

    def run(
        self,
        command: Command,
        *,
        check: bool = True,
        timeout_seconds: float = 60.0,
        user: str = "root",
        stdin: str = "",
    ) -> Completed:
        """Given a shell command or a list of words, run it inside and return how it ended and what it said.

        Raise AssertionError with its output when it fails (unless `check` is false) or does not end in time.
        """
        process = self._popen(command, user, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            message = f"{self._name(command)} did not end within {timeout_seconds:g} s"
            raise AssertionError(message) from None
        finally:
            _kill(process)
        result = Completed(command, process.returncode, stdout, stderr)
        if check and result.returncode != 0:
            raise AssertionError(f"{self._name(command)}: exit code {result.returncode}\n{stdout}{stderr}")
        return result

    def spawn(self, command: Command, *, user: str = "root") -> subprocess.Popen[str]:
        """Given a command, start it inside and return it; both its outputs are one pipe. It ends with the test."""
        process = self._popen(command, user, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        self._spawned.append(process)
        return process

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Given a path inside, make its folder and write the file."""
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        self.run(["sh", "-c", script, "sh", path, f"{mode:o}"], stdin=text)

    def read(self, path: str) -> str:
        """Return the text of a file inside."""
        return self.run(["cat", path]).stdout

    def copy_in(self, source: Path, target: str) -> None:
        """Given a file or folder outside, copy it to the path inside, modes kept."""
        self.run(["mkdir", "-p", str(Path(target).parent)])
        script = ["sh", "-c", 'd=$(mktemp -d) && tar -x -C "$d" && mv -T "$d"/* "$1" && rmdir "$d"', "sh", target]
        tar = ["tar", "-C", str(source.parent), "-c", source.name]
        with subprocess.Popen(tar, stdout=subprocess.PIPE) as packing:
            subprocess.run(self._words(script, "root"), stdin=packing.stdout, check=True)
        assert packing.returncode == 0, f"tar could not read {source}"

    def wait_until(
        self, condition: Command | Callable[[], object], *, timeout_seconds: float = 60.0, user: str = "root"
    ) -> None:
        """Given a command or a function, return as soon as it succeeds or is true. Raise AssertionError else."""
        deadline = time.monotonic() + timeout_seconds
        while not self._holds(condition, user):
            if time.monotonic() > deadline:
                message = f"{self._name(condition)} was not so within {timeout_seconds:g} s"
                raise AssertionError(f"{message}; the journal ends:\n{self.journal('-n', '60')}")
            time.sleep(0.1)

    def journal(self, *arguments: str) -> str:
        """Given options of journalctl, return what it prints."""
        return self.run(["journalctl", "--no-pager", *arguments]).stdout

    def linger(self, user: str) -> None:
        """Given a user inside, start the user's own manager and bus. `alice` is there for this."""
        self.run(["loginctl", "enable-linger", user])
        self.wait_until("systemctl --user show-environment", user=user)

    def reset(self) -> None:
        """Take away what a test of the agent leaves inside: agents, flow runs, their state and configuration."""
        self._end_spawned()
        self.run(_RESET, check=False)

    def kill_power(self) -> None:
        """Take the power away: nothing inside gets to run any more."""
        self._container.stop()

    def wait_down(self) -> None:
        """Return when it has powered itself off, which a command inside asked for."""
        self._container.wait_down()

    def shell(self) -> int:
        """Connect this terminal to a root shell inside, and return its exit code."""
        return subprocess.run(self._words(["bash", "-l"], "root", term=os.environ.get("TERM", "dumb"))).returncode

    def _popen(self, command: Command, user: str, *, stdin: int, stderr: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._words(command, user),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def _words(self, command: Command, user: str, *, term: str = "dumb") -> list[str]:
        words = ["sh", "-c", command] if isinstance(command, str) else list(command)
        environment = ["env", "-i", f"PATH={_PATH}", "LANG=C.UTF-8", f"TERM={term}"]
        inside = self._container.enter()
        if user == "root":
            return [*inside, *environment, "HOME=/root", "USER=root", *words]
        # what a login by ssh would set
        own = f'export HOME=/home/{user} USER={user} XDG_RUNTIME_DIR=/run/user/$(id -u); cd && exec "$@"'
        return [*inside, *environment, "runuser", "-u", user, "--", "sh", "-c", own, "sh", *words]

    def _holds(self, condition: Command | Callable[[], object], user: str) -> bool:
        if callable(condition):
            return bool(condition())
        return self.run(condition, check=False, user=user).returncode == 0

    def _name(self, command: Command | Callable[[], object]) -> str:
        words = command if isinstance(command, str) or callable(command) else " ".join(command)
        return f"debian {self.release}: {words}"

    def _end_spawned(self) -> None:
        for process in self._spawned:
            _kill(process)
        self._spawned.clear()


def _kill(process: subprocess.Popen[str]) -> None:
    """nsenter's child is in its session: end both, and let go of the pipes."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    with process:
        pass
