"""A booted Debian with an instance of the agent whose flow runs play (support/player.py) instead of running Prefect."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import player
from support.api import Api, wait_until
from support.machine import Completed, Machine
from system.agent.conftest import Instance

PYTHON = "/srv/python"
PLAYER = "/srv/player.py"
# Its version of prefect is told when no file SLOW is there
SLOW = "/srv/slow"
# LINES in a flow run's environment: so many lines, each written by a process that is gone at once
SCRIPT = f"""\
#!/bin/sh
if [ "$1" = -c ]; then while [ -e {SLOW} ]; do sleep 0.1; done; echo 1.4.1 3.11.2; exit; fi
for number in $(seq "${{LINES:-0}}"); do /bin/echo "line $number"; done
export PLAY_STARTS=/dev/null
exec /usr/bin/python3 -S -E -s {PLAYER} "$@"
"""


@pytest.fixture(scope="module")
def api(booted: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An embedded API for each booted Debian, on this machine's loopback, which it shares."""
    booted.write(PYTHON, SCRIPT, mode=0o755)
    booted.write(PLAYER, Path(player.__file__).read_text())
    with Api(tmp_path_factory.mktemp("api") / "server.db") as api:
        yield api


class Host:
    """The machine as its operator sees it."""

    def __init__(self, machine: Machine, api: Api) -> None:
        self.machine = machine
        self.api = api
        self.instance = Instance(machine, api)

    def start(self, more: str = "") -> None:
        """Start the instance prod1."""
        self.instance.configure(python=PYTHON, more=more)
        self.instance.start()

    def new_run(self, play: str = "report Running\nawait /srv/never", **env: str) -> str:
        """Create a flow run that plays, and return its id."""
        config = {"type": "LocalRun", "labels": ["prod1"], "env": {"PLAY": play, **env}, "__version__": "1.4.1"}
        return self.api.create_flow_run(self.api.create_flow(f"flow-{uuid.uuid4().hex[:6]}", run_config=config))

    def running(self, **env: str) -> str:
        """Create a flow run and wait until it runs."""
        run = self.new_run(**env)
        self.api.wait_for_state(run, "Running")
        return run

    def type(self, line: str, *, user: str = "root", check: bool = True) -> Completed:
        """Type `local-agent LINE`."""
        words = ["local-agent", *shlex.split(line)]
        return self.machine.run(words, user=user, check=check)

    def read(self, line: str, *, user: str = "root") -> dict[str, Any]:
        """Type `local-agent LINE --json` and return what it printed, whatever its exit code."""
        printed: dict[str, Any] = json.loads(self.type(f"{line} --json", user=user, check=False).stdout)
        return printed

    def runs(self, user: str = "root") -> dict[str, dict[str, Any]]:
        """Return what `ps --json` says of each flow run, by id."""
        return {run["id"]: run for run in self.read("ps", user=user)["runs"]}

    def wait_until_ended(self, run: str) -> None:
        """Wait until nothing of a flow run is left."""
        wait_until(lambda: run not in self.runs(), self.instance.journal)


@pytest.fixture
def host(machine: Machine, api: Api) -> Host:
    """The machine, with nothing started yet."""
    return Host(machine, api)
