"""The two agents, each as a child process with a home of its own: Prefect's agent, and this checkout's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import processes
from local_agent.net import control
from support.api import Api
from support.checkout import CHECKOUT

WAIT_SECONDS = 120.0
_LOOK_SECONDS = 0.005
# not LOCAL_AGENT_*: our agent reads those, and keeps them from its flow runs
_MARK = "AGENT_BENCH_SIDE"
_REMOVED = ("PREFECT__", "LOCAL_AGENT_", "NOTIFY_", "WATCHDOG_", "JOURNAL_STREAM", "INVOCATION_ID", "PYTHON")

# The original starts its flow runs with its own interpreter, so that is what is replaced
_PREFECT_WITH_STUB = """\
import sys
sys.executable = {stub!r}
from prefect.cli import cli
cli()
"""


class Side(ABC):
    """An agent that serves a label of its own. It and all that it started end with the `with` block."""

    side = ""
    # what it says when it has registered, and when it has started a flow run
    is_up_when_it_says = ""
    starts_with = ""
    # the signal that it ends orderly by
    end_signal = signal.SIGTERM

    def __init__(self, folder: Path, api: Api, *, stub: Path | None = None, api_url: str = "") -> None:
        """Given its folder and the API.

        `stub` starts in place of flow runs; `api_url` leads to the API by another way. `started_at` is when it was
        started last (monotonic seconds).
        """
        self.folder = folder
        self.label = f"bench-{uuid.uuid4().hex[:12]}"
        self.api_url = api_url or api.url
        self._api = api
        self._stub = stub
        self._mark = f"{_MARK}={self.label}"
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(f"{self.side}: it had said:\n{self.said()[-4000:]}", file=sys.stderr)
        self.kill()
        processes.end_marked(self._mark)

    @property
    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """The command line."""

    @abstractmethod
    def poke(self) -> None:
        """Have it poll now."""

    # The process

    @property
    def environment(self) -> dict[str, str]:
        """Its environment, without anybody's Prefect or local-agent."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_REMOVED)}
        return {**inherited, "HOME": str(self.folder), _MARK: self.label}

    def start(self) -> None:
        """Start it, and do not wait for anything."""
        with self._console_path.open("ab") as console:
            self.started_at = time.monotonic()
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=self.environment,
            )

    @property
    def pid(self) -> int:
        """The agent's process."""
        assert self._process is not None, "the agent is not running"
        return self._process.pid

    def tree(self) -> list[int]:
        """Return the pids of the agent and of what it has started."""
        return processes.tree(self.pid)

    def kill(self) -> None:
        """End it with SIGKILL, if it runs; its flow runs go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def end(self) -> float:
        """End it by its signal, and return how many seconds that took."""
        began = time.monotonic()
        assert self._process is not None, "the agent is not running"
        self._process.send_signal(self.end_signal)
        self._process.wait(WAIT_SECONDS)
        self._process = None
        return time.monotonic() - began

    # What it says

    @property
    def _console_path(self) -> Path:
        return self.folder / "console"

    def said(self) -> str:
        """Return what it has printed."""
        return self._console_path.read_text(errors="replace")

    def wait_until_up(self) -> None:
        """Wait until it has registered and asked for flow runs."""
        self.wait_for(self.is_up_when_it_says)

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until it has said something so often. Raise AssertionError with all that it said."""
        self.wait_until(lambda: self.said().count(text) >= times, f"{text!r} x {times}")

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds, looking often: what follows may be timed."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"{self.side}: no {what}; it said:\n{self.said()[-4000:]}"
            time.sleep(_LOOK_SECONDS)

    # At the API

    def new_flow(self) -> str:
        """Register a flow whose runs only this agent gets, and return its id."""
        return self._api.create_flow(self.label, labels=[self.label])

    def requests(self) -> int:
        """Return how many requests it has made."""
        query = "query($n: String) { agent(where: {name: {_eq: $n}}) { id } }"
        ids = [row["id"] for row in self._api.graphql(query, {"n": self.label})["agent"]]
        return sum(self._api.count_requests(agent_id) for agent_id in ids)


class Theirs(Side):
    """`prefect agent local start`, 1.4.1, with its defaults."""

    side = "theirs"
    is_up_when_it_says = "Waiting for flow runs"
    starts_with = "Completed deployment of flow run"
    end_signal = signal.SIGINT

    def __init__(
        self,
        folder: Path,
        api: Api,
        prefect_python: Path,
        *,
        stub: Path | None = None,
        api_url: str = "",
        poke_port: int | None = None,
    ) -> None:
        """Given the interpreter that has it. With `poke_port` it listens there for pokes."""
        super().__init__(folder, api, stub=stub, api_url=api_url)
        self._python = prefect_python
        self._poke_port = poke_port

    @property
    def command(self) -> Sequence[str | Path]:
        """The command that an administrator types, or the same with a stub in its place."""
        prefect: list[str | Path] = [self._python.parent / "prefect"]
        if self._stub is not None:
            prefect = [self._python, "-c", _PREFECT_WITH_STUB.format(stub=str(self._stub))]
        address = ["--agent-address", f"http://127.0.0.1:{self._poke_port}"] if self._poke_port else []
        names = ["--name", self.label, "--label", self.label, "--no-hostname-label"]
        return [*prefect, "agent", "local", "start", "--api", self.api_url, *names, *address]

    @property
    def environment(self) -> dict[str, str]:
        """Prefect Server instead of Cloud, as the documentation of its local agent says."""
        home = {"PREFECT__HOME_DIR": str(self.folder / ".prefect")}
        server = {"PREFECT__BACKEND": "server", "PREFECT__SERVER__ENDPOINT": self.api_url}
        return {**super().environment, **home, **server}

    def poke(self) -> None:
        """Ask its web server."""
        assert self._poke_port, "started without an address for pokes"
        with contextlib.closing(urllib.request.urlopen(f"http://127.0.0.1:{self._poke_port}/api/poke")) as answer:
            answer.read()


class Ours(Side):
    """`local-agent start` from this checkout, with its defaults but for the launcher."""

    side = "ours"
    is_up_when_it_says = "Registered at"
    starts_with = " started: "

    def __init__(
        self,
        folder: Path,
        api: Api,
        flows_python: Path,
        launcher: str,
        *,
        stub: Path | None = None,
        api_url: str = "",
    ) -> None:
        """Given the interpreter of flow runs where there is no stub, and how they are launched."""
        super().__init__(folder, api, stub=stub, api_url=api_url)
        self._python = stub or flows_python
        self._launcher = launcher
        self.state_dir = folder / "state"

    @property
    def command(self) -> Sequence[str | Path]:
        """The command that its unit has, here with folders of its own."""
        names = ["--name", self.label, "--label", self.label, "--no-hostname-label"]
        folders: list[str | Path] = ["--state-dir", self.state_dir, "--config-dir", self.folder / "etc"]
        how: list[str | Path] = ["--launcher", self._launcher, "--python", self._python]
        return [sys.executable, "-m", "local_agent", "start", "--api", self.api_url, *names, *folders, *how]

    @property
    def environment(self) -> dict[str, str]:
        """Where this checkout's source is."""
        return {**super().environment, "PYTHONPATH": str(CHECKOUT / "src")}

    def poke(self) -> None:
        """Ask over its control socket, as `local-agent poke` does once it has started."""
        self.ask("poke")

    def ask(self, command: str) -> str:
        """Ask over its control socket."""
        return control.ask(self.state_dir, command)

    def wait_until_idle(self) -> None:
        """Wait until it remembers no flow run: all ends are reported and cleared away."""
        records = self.state_dir / "runs"
        self.wait_until(lambda: not any(records.glob("*.json")), "empty folder of records")
