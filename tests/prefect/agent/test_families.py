"""Real flows that start flows and wait for them, with fewer places than generations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import real_flows
from support.api import Api
from support.checkout import CHECKOUT
from support.leftovers import MARKER
from support.prefect_venv import prefect_python

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(300)]

_SECONDS = 200.0


def test_two_families_of_three_generations_in_two_places(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api:
        flows = _registered(api, tmp_path)
        command = [sys.executable, "-m", "local_agent", "start", "--launcher", "process", "--api", api.url]
        options = ["--label", "family", "--no-hostname-label", "--python", str(prefect_python()), "--limit", "2"]
        with (
            (tmp_path / "log").open("w") as log,
            subprocess.Popen(
                [*command, *options, "--poll-interval", "1", "--state-dir", str(tmp_path / "state")],
                env={**_environment(api, tmp_path), "PYTHONPATH": str(CHECKOUT / "src")},
                stdout=log,
                stderr=log,
            ) as agent,
        ):
            try:
                runs = [api.create_flow_run(flows["grandparent"]) for _ in range(2)]
                for run in runs:
                    api.wait_for_state(run, "Success", seconds=_SECONDS)
            finally:
                agent.terminate()
                agent.wait()
        rows = api.graphql("{ flow_run { state flow { name } } }")["flow_run"]
        assert sorted((row["flow"]["name"], row["state"]) for row in rows) == [
            *[("grandparent", "Success")] * 2,
            *[("hello", "Success")] * 4,
            *[("parent", "Success")] * 2,
        ]
        assert "all 2 places are taken" in (tmp_path / "log").read_text()


def _registered(api: Api, home: Path) -> dict[str, str]:
    script = str(CHECKOUT / "tests/support/real_flows.py")
    done = subprocess.run(
        [prefect_python(), script, "family"], env=_environment(api, home), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(real_flows.registered(done.stdout))


def _environment(api: Api, home: Path) -> dict[str, str]:
    path = os.environ["PATH"]
    return {**real_flows.environment(api.url, str(home)), "PATH": path, MARKER: os.environ[MARKER]}
