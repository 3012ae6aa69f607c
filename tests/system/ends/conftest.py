"""Instances whose flow runs are played: a booted Debian, an embedded API outside, a player in place of prefect."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import player
from support.api import Api
from support.machine import Machine
from system.agent.conftest import Instance

_FOLDER = "/opt/played"
_STARTS = f"{_FOLDER}/starts"
_PYTHON = f"""\
#!/bin/sh
if [ "$1" = -c ]; then echo 1.4.1; exit; fi
exec /usr/bin/python3 -S -E -s {_FOLDER}/player.py "$@"
"""


@dataclass
class PlayedInstance(Instance):
    """`local-agent@prod1`, whose flow runs do what PLAY says (support/player.py)."""

    def prepare(self, more: str = "") -> None:
        """Put the player and agent.toml in place; `more` goes into the latter."""
        self.machine.write(f"{_FOLDER}/player.py", Path(player.__file__).read_text())
        self.machine.write(f"{_FOLDER}/python", _PYTHON, 0o755)
        self.machine.write(_STARTS, "", 0o666)
        env = f'[env]\nPLAY_STARTS = "{_STARTS}"\nPLAY_API = "{self.api.url}"\n'
        api = f'api = "{self.api.url}"\npython = "{_FOLDER}/python"\n'
        self.machine.write("/etc/local-agent/agent.toml", f"{api}\n{more}\n{env}")

    def new_run(self, play: str, **env: str) -> str:
        """Create a flow run that plays; `env` adds to what its run config sets."""
        config = {"type": "LocalRun", "labels": [self.name], "env": {"PLAY": play, **env}, "working_dir": None}
        flow = self.api.create_flow(f"flow-{uuid.uuid4().hex[:8]}", run_config={**config, "__version__": "1.4.1"})
        return self.api.create_flow_run(flow)

    def starts(self) -> list[str]:
        """Return the id of each flow run that was started, once for each start."""
        return [line.split()[0] for line in self.machine.read(_STARTS).splitlines()]

    def scope(self, run: str, *names: str) -> dict[str, str]:
        """Return properties of a flow run's scope."""
        printed = self.machine.run(["systemctl", "show", f"flow-run-{run}.scope", *(f"-p{name}" for name in names)])
        return dict(line.partition("=")[::2] for line in printed.stdout.splitlines())


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An embedded API on this machine's loopback, which the booted Debians share."""
    with Api(tmp_path_factory.mktemp("api") / "server.db") as api:
        yield api


@pytest.fixture
def played(machine: Machine, api: Api) -> PlayedInstance:
    """An instance that is ready and not yet started."""
    instance = PlayedInstance(machine, api)
    instance.prepare()
    return instance
