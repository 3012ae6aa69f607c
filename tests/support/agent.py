"""`local-agent start` as a child process, with a player in place of Prefect's flow-run process.

with AgentProcess(tmp_path, api.url, "--limit", "2") as agent:
    agent.wait_for("Registered at")
    run = agent.new_run(api, "report Running\\nreport Success")
    api.wait_for_state(run, "Success")
    assert agent.starts() == [run]
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from local_agent.errors import UnavailableError
from local_agent.net import control
from support.api import Api
from support.api_client import WAIT_SECONDS, ApiClient, wait_until
from support.checkout import CHECKOUT

END_SECONDS = 60.0
_FOLDER = "AGENT_TEST_FOLDER"
_PLAYER = CHECKOUT / "tests/support/player.py"
_REMOVED = ("PREFECT__", "LOCAL_AGENT_", "NOTIFY_", "WATCHDOG_", "JOURNAL_STREAM", "INVOCATION_ID", "STATE_DIRECTORY")

SAYS_VERSION = 'if [ "$1" = -c ]; then echo 1.4.1; exit; fi'
PLAYS = f'exec {sys.executable} -S -E -s {_PLAYER} "$@"'


class AgentProcess:
    """One agent in a folder of its own; start it again and it goes on where it was."""

    def __init__(
        self,
        folder: Path,
        api_url: str,
        *options: str,
        environ: Mapping[str, str] | None = None,
        python: str = "",
        state_dir: Path | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        """Given its folder, the API and more options of `start`.

        `python` is the script that stands in for the interpreter of flow runs; by default it plays.
        `wrapper` is a command that starts the agent as its child, such as unshare with --fork.
        """
        self.folder = folder
        self.label = f"test-{uuid.uuid4().hex[:12]}"
        self.python = folder / "python"
        self.state_dir = state_dir or folder / "state"
        self.options = ["--python", str(self.python), *options]
        self._api_url = api_url
        self._wrapper = wrapper
        self._environ = dict(environ or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._already = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.write_python(python or f"{SAYS_VERSION}\n{PLAYS}")

    def write_python(self, script: str) -> None:
        """Put another script in place of the interpreter."""
        new = self.python.with_suffix(".new")
        new.write_text(f"#!/bin/sh\n{script}\n")
        new.chmod(0o755)
        new.replace(self.python)

    def write_config(self, text: str) -> None:
        """Write its configuration file; its flags win over it."""
        path = self.folder / "etc/agent.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.kill()
        self.end_flow_runs()

    # The process

    @property
    def command(self) -> list[str]:
        """The command line that starts it."""
        return [
            *self._wrapper,
            *(sys.executable, "-m", "local_agent", "start", "--api", self._api_url),
            *("--name", self.label, "--label", self.label, "--no-hostname-label", "--launcher", "process"),
            *("--state-dir", str(self.state_dir), "--config-dir", str(self.folder / "etc")),
            *self.options,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """The environment that it is started with."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_REMOVED)}
        return {
            **inherited,
            "HOME": str(self.folder),
            "PYTHONPATH": str(CHECKOUT / "src"),
            "PLAY_STARTS": str(self.folder / "starts"),
            _FOLDER: str(self.folder),
            **self._environ,
        }

    def start(self) -> None:
        """Start it, and do not wait for anything."""
        assert self._process is None, "the agent is running"
        self._already = len(self.console)
        with self._console_path.open("ab") as console:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=self.environment
            )

    @property
    def pid(self) -> int:
        """The agent's process."""
        assert self._process is not None, "the agent is not running"
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text()) if self._wrapper else pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        assert self._process is not None, "the agent is not running"
        code = self._process.wait(END_SECONDS)
        self._process = None
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Stop it; return its exit code and how many seconds that took."""
        began = time.monotonic()
        self.send(number)
        return self.wait(), time.monotonic() - began

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self.wait()

    def ask(self, command: str) -> str:
        """Ask over its control socket."""
        return control.ask(self.state_dir, command)

    def wait_until_up(self) -> None:
        """Wait until it answers on its control socket; it hears its signals then."""
        wait_until(self._answers, lambda: f"no answer; the agent said:\n{self.console}")

    def _answers(self) -> bool:
        try:
            return bool(self.ask("status"))
        except (UnavailableError, FileNotFoundError):
            assert self._process is None or self._process.poll() is None, f"the agent ended:\n{self.console}"
            return False

    # What it says

    @property
    def _console_path(self) -> Path:
        return self.folder / "console"

    @property
    def console(self) -> str:
        """Everything that it and its earlier lives have printed."""
        return self._console_path.read_text() if self._console_path.exists() else ""

    @property
    def said(self) -> str:
        """What it has printed since its latest start."""
        return self.console[self._already :]

    def wait_for(self, text: str, times: int = 1, *, seconds: float = WAIT_SECONDS) -> None:
        """Wait until it has said something since its latest start."""
        wait_until(
            lambda: self.said.count(text) >= times,
            lambda: f"{text!r} x {times}; the agent said:\n{self.said}",
            seconds=seconds,
        )

    # What the API has counted

    def count_requests(self, api: Api) -> int:
        """Return how many requests it has made, in all its lives."""
        return sum(api.count_requests(agent_id) for agent_id in self._ids(api))

    def count_polls(self, api: Api) -> int:
        """Return how often it has asked for the queue."""
        counters = api.stats()["agents"]
        return sum(
            int(counters.get(agent_id, {"operations": {}})["operations"].get("get_runs_in_queue", 0))
            for agent_id in self._ids(api)
        )

    def _ids(self, api: ApiClient) -> list[str]:
        query = "query($n: String) { agent(where: {name: {_eq: $n}}) { id } }"
        return [row["id"] for row in api.graphql(query, {"n": self.label})["agent"]]

    # Its flow runs

    def new_run(self, api: ApiClient, play: str, **more: object) -> str:
        """Create a flow run that only this agent gets, and that plays `play`; `more` goes into the run_config."""
        return api.create_flow_run(self.new_flow(api, play, **more))

    def new_flow(self, api: ApiClient, play: str, **more: object) -> str:
        """Register a flow whose runs only this agent gets, and play `play`; `more` goes into the run_config."""
        config = {"type": "LocalRun", "labels": [self.label], "env": {"PLAY": play}, "working_dir": None}
        return api.create_flow(f"flow-{uuid.uuid4().hex[:12]}", run_config={**config, **more, "__version__": "1.4.1"})

    def starts(self) -> list[str]:
        """Return the id of each flow run that was started, once for each start."""
        return [line.split()[0] for line in self._starts()]

    def started_at(self) -> dict[str, datetime]:
        """Return when each flow run that plays was started."""
        fields = [line.split() for line in self._starts()]
        return {run: datetime.fromtimestamp(float(seconds), UTC) for run, seconds in fields}

    def _starts(self) -> list[str]:
        path = self.folder / "starts"
        return path.read_text().splitlines() if path.exists() else []

    def records(self) -> list[str]:
        """Return the ids of the flow runs that it remembers on disk."""
        return sorted(path.stem for path in (self.state_dir / "runs").glob("*.json"))

    def leftovers(self) -> list[str]:
        """Return the names of all files that it keeps for flow runs."""
        return sorted(path.name for path in (self.state_dir / "runs").iterdir())

    def wait_until_forgotten(self, ids: Sequence[str] | None = None) -> None:
        """Wait until none of these flow runs, or none at all, is remembered on disk."""
        wait_until(
            lambda: not (self.records() if ids is None else set(ids) & set(self.records())),
            lambda: f"still there: {self.records()}; the agent said:\n{self.said}",
        )

    def processes(self) -> list[int]:
        """Return the pids of everything that lives because of this agent, but for the agent itself."""
        wanted = f"{_FOLDER}={self.folder}\0".encode()
        own = {self._process.pid, self.pid} if self._process else set()
        return [pid for pid in _all_pids() if pid not in own and (wanted in _environ_of(pid) or self._is_shim(pid))]

    def _is_shim(self, pid: int) -> bool:
        """Tell whether a process is a shim of one of its flow runs, which has nothing of their environment."""
        return f"/shim.sh {self.state_dir}/runs/" in command_of(pid)

    def end_flow_runs(self) -> None:
        """Kill what is left of its flow runs."""
        while pids := self.processes():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def threads(self) -> int:
        """Return how many threads it has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def zombies(self) -> int:
        """Return how many of its children have ended and were not waited for."""
        states = [_stat(pid) for pid in _all_pids()]
        return sum(1 for fields in states if fields[:2] == ["Z", str(self.pid)])


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    return (_stat(pid) or ["Z"])[0] != "Z"


def command_of(pid: int) -> str:
    """Return the command line of a process, "" where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def pid_in(path: Path) -> int:
    """Wait for a file that the player made, and return the pid in it."""
    wait_until(path.exists, lambda: f"{path} is not there")
    return int(path.read_text())


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names are all we want


def _environ_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes() + b"\0"
    except OSError:
        return b""


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on, none where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
