"""Prefect's own agent and ours share a label at an API without a lock. Theirs reads nothing back: ours gives way."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos import plays
from support.agent import AgentProcess
from support.api import Api
from support.api_client import wait_until
from support.prefect_venv import prefect_python

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(300)]

_COUNT = 12
_DUE_IN_SECONDS = 6.0
_ENOUGH_SECONDS = 120.0
# the original starts its flow runs with its own interpreter, so that is what is replaced
_PREFECT = """\
import sys
sys.executable = {player!r}
from prefect.cli import cli
cli()
"""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API that lets every claim overwrite another."""
    with Api(tmp_path / "server.db", options=["--no-submit-lock"]) as running:
        yield running


def test_each_flow_run_is_run_once(api: Api, tmp_path: Path) -> None:
    play = plays.succeeds(0.2)
    ours = AgentProcess(tmp_path / "ours", api.url, "--claim-check", "always", environ={"PLAY_API": api.url})
    config = {"type": "LocalRun", "labels": [ours.label], "env": {"PLAY": play.script}, "working_dir": None}
    flow = api.create_flow(run_config={**config, "__version__": "1.4.1"})
    with ours, _theirs(tmp_path / "theirs", api, ours) as console:
        ours.wait_for("Registered at")
        wait_until(lambda: "Waiting for flow runs" in console.read_text(), console.read_text, seconds=_ENOUGH_SECONDS)
        # both have them by then, and claim them in the same moment
        runs = api.create_flow_runs(flow, _COUNT, start_in=_DUE_IN_SECONDS)
        wait_until(lambda: not plays.unfinished(api, runs), lambda: f"{ours.console}\n{console.read_text()}")
        ours.wait_until_forgotten()
        problems = plays.wrong(api, dict.fromkeys(runs, play), ours.starts())
        assert not problems, "\n".join(problems)
        claims = [[state["type"] for state in past].count("Submitted") for past in plays.histories(api, runs).values()]
        assert max(claims) > 1, "no flow run was claimed by both"


@contextmanager
def _theirs(folder: Path, api: Api, ours: AgentProcess) -> Iterator[Path]:
    """Start Prefect's agent, whose flow runs play and note their start where those of ours do; give its console."""
    folder.mkdir()
    console = folder / "console"
    program = _PREFECT.format(player=str(ours.python))
    options = ["--api", api.url, "--name", "theirs", "--label", ours.label, "--no-hostname-label"]
    environment = {
        **ours.environment,
        "HOME": str(folder),
        "PREFECT__HOME_DIR": str(folder / ".prefect"),
        "PREFECT__BACKEND": "server",
        "PREFECT__SERVER__ENDPOINT": api.url,
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("PYTHONPATH")
    with console.open("wb") as output:
        process = subprocess.Popen(
            [prefect_python(), "-c", program, "agent", "local", "start", *options],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield console
    finally:
        process.kill()
        process.wait()
