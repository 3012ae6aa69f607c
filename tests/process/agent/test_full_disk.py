"""A state folder on a full disk: no claim that could not be remembered, and no need to restart afterwards."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import AgentProcess
from support.api import Api
from support.api_client import wait_until

_SUCCEEDS = "report Running\nreport Success"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def _fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return ballast


def test_no_run_is_claimed_until_there_is_room(api: Api, folder: Path, tiny_disk: Path) -> None:
    agent = AgentProcess(folder, api.url, state_dir=tiny_disk / "state")
    agent.write_config("limit = 5\n")
    with agent:
        before = agent.new_run(api, _SUCCEEDS)
        api.wait_for_state(before, "Success")
        agent.wait_until_forgotten()

        ballast = _fill(tiny_disk)
        run = agent.new_run(api, _SUCCEEDS)
        agent.wait_for(f"No further flow run is taken: {agent.state_dir}/runs is full")
        polls = agent.count_polls(api)
        wait_until(lambda: agent.count_polls(api) > polls + 2, lambda: agent.said)
        assert agent.said.count("is full") == 1
        assert api.state_types(run) == ["Scheduled"]

        ballast.unlink()
        api.wait_for_state(run, "Success")
        agent.wait_until_forgotten()
        assert agent.starts() == [before, run]


def test_a_run_that_ends_on_a_full_disk_is_reported(api: Api, folder: Path, tiny_disk: Path) -> None:
    agent = AgentProcess(folder, api.url, state_dir=tiny_disk / "state")
    with agent:
        run = agent.new_run(api, f"report Running\nawait {folder}/go\nexit 3")
        api.wait_for_state(run, "Running")
        ballast = _fill(tiny_disk)
        (folder / "go").touch()
        api.wait_for_state(run, "Failed")
        assert api.states(run)[-1]["message"] == "Exited with code 3"
        agent.wait_until_forgotten()
        ballast.unlink()
        assert agent.leftovers() == []
