"""The packaged agent, which has no privileges, says what a shutdown ended before the machine is down."""

from __future__ import annotations

from pathlib import Path

import pytest

from package.conftest import Repository
from package.test_lifecycle import APT, put_player, start_live_runs
from roots import RELEASES
from support.api import Api
from support.plain_debian import plain_machine

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@pytest.mark.parametrize("number", RELEASES)
def test_what_ran_is_reported_before_the_machine_is_down(number: int, repository: Repository, tmp_path: Path) -> None:
    with (
        Api(tmp_path / "server.db") as api,
        plain_machine(number, repository.now, repository.keyring) as machine,
    ):
        machine.run(f"apt-get -q update && {APT} install local-agent", timeout_seconds=300)
        put_player(machine, "prod1", f'api = "{api.url}"\n')
        machine.run("systemctl enable --now local-agent@prod1")
        assert "through the broker" in machine.journal("-u", "local-agent@prod1", "-o", "cat")
        runs = start_live_runs(machine, api, "prod1", 5)
        machine.run(["systemctl", "poweroff"])
        machine.wait_down()
        # nothing of the machine lives any more: what the API knows it was told before
        for run in runs:
            assert api.state(run) == "Failed"
            assert api.states(run)[-1]["message"].startswith("The machine was shut down")
