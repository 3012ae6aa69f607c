"""An agent with a hundred live flow runs is upgraded and downgraded by dpkg, again and again: none is lost.

Only in `make chaos`; tests/package has one upgrade, and tests/system/ends some restarts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from package.conftest import Repository, machine, packages, repository
from support import player
from support.api import Api
from support.api_client import wait_until
from support.machine import Machine

__all__ = ["machine", "packages", "repository"]

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

_RUNS = 100
_UPGRADES = 20
_ENOUGH_SECONDS = 240.0
_UNIT = "local-agent@prod1.service"
_APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends"
_FOLDER = "/opt/played"
_PYTHON = f"""\
#!/bin/sh
if [ "$1" = -c ]; then echo 1.4.1; exit; fi
exec /usr/bin/python3 -S -E -s {_FOLDER}/player.py "$@"
"""
_SETTINGS = """\
api = "{api}"
python = "{folder}/python"
[env]
PLAY_STARTS = "{folder}/starts"
PLAY_API = "{api}"
"""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API outside."""
    with Api(tmp_path / "server.db") as running:
        yield running


def test_no_run_is_lost_when_the_agent_is_upgraded_again_and_again(
    machine: Machine, repository: Repository, api: Api
) -> None:
    _install(machine, api)
    plays = _start_runs(machine, api)
    versions = [_deb(folder, machine.release) for folder in (repository.next, repository.now)]
    for number in range(_UPGRADES):
        before = _show(machine, "InvocationID")
        machine.copy_in(versions[number % 2], "/srv/upgrade.deb")
        machine.run("dpkg --force-downgrade -i /srv/upgrade.deb", timeout_seconds=300)
        wait_until(lambda: _show(machine, "InvocationID") not in ("", before), machine.journal)  # noqa: B023 - asked before the loop goes on
        _wait_for_status(machine, f"{_RUNS} running")
    machine.write(f"{_FOLDER}/go", "")
    _wait_for_status(machine, "0 running")
    _check(machine, api, plays)


def _install(machine: Machine, api: Api) -> None:
    machine.run(f"{_APT} install local-agent", timeout_seconds=300)
    machine.write(f"{_FOLDER}/player.py", Path(player.__file__).read_text())
    machine.write(f"{_FOLDER}/python", _PYTHON, 0o755)
    machine.write(f"{_FOLDER}/starts", "", 0o666)
    machine.write("/etc/local-agent/prod1.toml", _SETTINGS.format(api=api.url, folder=_FOLDER))
    machine.run(f"systemctl enable --now {_UNIT}", timeout_seconds=90)


def _deb(folder: Path, release: int) -> Path:
    """Return the agent's package for a release in a repository."""
    return next(deb for deb in folder.rglob("local-agent_*.deb") if f"deb{release}" in deb.name)


def _start_runs(machine: Machine, api: Api) -> dict[str, str]:
    """Return how each of them ends, once the test lets them."""
    plays = {}
    for end in ["report Success", "exit 7"]:
        env = {"PLAY": f"report Running\nawait {_FOLDER}/go\n{end}"}
        config = {"type": "LocalRun", "labels": ["prod1"], "env": env, "working_dir": None, "__version__": "1.4.1"}
        runs = api.create_flow_runs(api.create_flow(end, run_config=config), _RUNS // 2)
        plays.update(dict.fromkeys(runs, end))
    wait_until(
        lambda: set(api.states_of(list(plays)).values()) == {"Running"}, machine.journal, seconds=_ENOUGH_SECONDS
    )
    return plays


def _show(machine: Machine, name: str) -> str:
    return machine.run(["systemctl", "show", "--property", name, "--value", _UNIT]).stdout.strip()


def _wait_for_status(machine: Machine, text: str) -> None:
    wait_until(lambda: _show(machine, "StatusText").startswith(text), machine.journal, seconds=_ENOUGH_SECONDS)


def _check(machine: Machine, api: Api, plays: dict[str, str]) -> None:
    starts = [line.split()[0] for line in machine.read(f"{_FOLDER}/starts").splitlines()]
    assert sorted(starts) == sorted(plays)
    for run, end in plays.items():
        last = "Failed" if end == "exit 7" else "Success"
        api.wait_for_state(run, last)
        assert api.state_types(run) == ["Scheduled", "Submitted", "Running", last]
        assert last == "Success" or api.states(run)[-1]["message"] == "Exited with code 7"
    assert "Traceback" not in machine.journal("-u", _UNIT)
