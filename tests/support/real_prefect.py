"""The real prefect 1.4.1, shut off from whatever Prefect the user of this machine has."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.api import Api
from support.api_client import wait_until
from support.prefect_venv import prefect_python

SECONDS = 120.0


class Prefect:
    """Prefect's command line, agent and library, pointed at an API."""

    def __init__(self, home: Path, api: Api) -> None:
        """Given a folder that is its HOME."""
        home.mkdir(parents=True, exist_ok=True)
        self.python = prefect_python()
        self.home = home
        self._mark = f"LOCAL_AGENT_TEST_PREFECT={uuid.uuid4().hex}"
        self.environment = self._environment(api)

    def _environment(self, api: Api) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT__", "PYTHON"))}
        where = (
            {"PREFECT__BACKEND": "cloud", "PREFECT__CLOUD__API": api.url}
            if api.key
            else {"PREFECT__BACKEND": "server", "PREFECT__SERVER__ENDPOINT": api.url}
        )
        name, value = self._mark.split("=")
        return {
            **kept,
            name: value,
            "HOME": str(self.home),
            "PREFECT__HOME_DIR": str(self.home / ".prefect"),
            # a process for each run's heartbeats would outlive a run that is killed
            "PREFECT__CLOUD__HEARTBEAT_MODE": "thread",
            "PREFECT__CLOUD__CHECK_CANCELLATION_INTERVAL": "1",
            "PREFECT__CLOUD__LOGGING_HEARTBEAT": "1",
            **where,
        }

    def cli(self, *arguments: str, code: int = 0, environment: Mapping[str, str] | None = None) -> str:
        """Run a `prefect` command, check its exit code and return what it prints."""
        return self.run("-m", "prefect", *arguments, code=code, environment=environment)

    def script(self, text: str, *, environment: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - any JSON value
        """Run a Python program; its last line is JSON, and that is returned."""
        return json.loads(self.run("-c", text, environment=environment).splitlines()[-1])

    def run(self, *arguments: str, code: int = 0, environment: Mapping[str, str] | None = None) -> str:
        """Run Prefect's interpreter with these arguments, check its exit code and return what it prints."""
        ended = subprocess.run(
            [self.python, *arguments],
            cwd=self.home,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            text=True,
            check=False,
        )
        assert ended.returncode == code, f"prefect {arguments} ended with {ended.returncode}:\n{ended.stdout}"
        return ended.stdout

    @contextmanager
    def started(self, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """Start a `prefect` command and give its process and the file that it prints into. It ends with the block."""
        output = self.home / f"output-{uuid.uuid4().hex}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [self.python, "-m", "prefect", *arguments],
                cwd=self.home,
                env={**self.environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            yield process, output
        finally:
            process.kill()
            process.wait()

    def run_queue(self, *labels: str) -> str:
        """Let Prefect's own agent poll once and start what it gets, and return what it prints."""
        chosen = [word for label in labels for word in ("--label", label)]
        return self.cli("agent", "local", "start", "--no-hostname-label", "--max-polls", "1", *chosen)

    def wait_until_gone(self) -> None:
        """Wait until no process started from here is left: flow runs go on after their agent."""
        mark = self._mark.encode()
        wait_until(lambda: not list(_processes_with(mark)), lambda: str(list(_processes_with(mark))), seconds=SECONDS)


def _processes_with(mark: bytes) -> Iterator[str]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if mark in (folder / "environ").read_bytes():
                yield (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
