"""A machine that is shut down in an orderly way says so before it is down."""

from __future__ import annotations

import pytest

from support.api import Api
from support.debian import RELEASES
from support.machine import Machine
from system.ends.conftest import PlayedInstance

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.mark.parametrize("release", RELEASES)
def test_what_ran_is_reported_before_the_machine_is_down(api: Api, release: int) -> None:
    with Machine(release) as machine:
        played = PlayedInstance(machine, api)
        played.prepare()
        played.start()
        running = played.new_run("report Running\nnap 600")
        silent = played.new_run("nap 600")
        api.wait_for_state(running, "Running")
        machine.wait_until(lambda: len(played.starts()) == 2)
        machine.run(["systemctl", "poweroff"])
        machine.wait_down()
        # nothing of the machine lives any more, so whatever the API knows it was told before
        for run in (running, silent):
            assert api.state(run) == "Failed"
            assert api.states(run)[-1]["message"].startswith("The machine was shut down")
