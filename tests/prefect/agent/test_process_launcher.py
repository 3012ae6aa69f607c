"""Real prefect 1.4.1 flow runs under our agent with the process launcher, as on a machine without systemd."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support import real_flows
from support.api import Api, wait_until
from support.checkout import CHECKOUT
from support.leftovers import MARKER
from support.prefect_venv import prefect_python
from support.real_flows import CHECK_SECONDS

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(300)]

_LABEL = "real"
_GIL_SECONDS = 90
_FRESH_SECONDS = 85  # stale after 60 s, looked at every 5 s, and the noise of a loaded machine


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The embedded API."""
    with Api(tmp_path_factory.mktemp("api") / "server.db") as api:
        yield api


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for prefect, where it keeps the flows."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def flows(api: Api, home: Path) -> Mapping[str, str]:
    """Real flows: name -> id."""
    done = subprocess.run(
        [prefect_python(), str(CHECKOUT / "tests/support/real_flows.py"), _LABEL],
        env=_environment(api, home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return real_flows.registered(done.stdout)


@pytest.fixture
def agent(api: Api, home: Path, tmp_path: Path) -> Iterator[Path]:
    """Our agent; its output is in the file that this gives."""
    log = tmp_path / "agent.log"
    command = [sys.executable, "-m", "local_agent", "start", "--launcher", "process", "--api", api.url]
    options = ["--label", _LABEL, "--no-hostname-label", "--python", str(prefect_python()), "--show-flow-logs"]
    state = ["--state-dir", str(tmp_path / "state"), "--config-dir", str(tmp_path / "no-config")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *options, *state],
            env={**_environment(api, home), "PYTHONPATH": str(CHECKOUT / "src")},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    yield log
    process.terminate()
    assert process.wait(timeout=60) == 0, log.read_text()


def _environment(api: Api, home: Path) -> dict[str, str]:
    own = {name: os.environ[name] for name in ("PATH", MARKER) if name in os.environ}
    return {**own, **real_flows.environment(api.url, str(home))}


def test_a_flow_run_to_success(agent: Path, api: Api, flows: Mapping[str, str]) -> None:
    run = api.create_flow_run(flows["hello"], name="greeting")
    api.wait_for_state(run, "Success")
    wait_until(lambda: "greeting | written by the flow itself" in agent.read_text(), agent.read_text)
    submitted = "Submitted for execution: PID "
    wait_until(lambda: any(line.startswith(submitted) for line in api.messages(run)), agent.read_text)


def test_cancelling_at_the_api_ends_it(agent: Path, api: Api, flows: Mapping[str, str]) -> None:
    run = api.create_flow_run(flows["nap"], parameters={"seconds": 600})
    api.wait_for_state(run, "Running")
    api.cancel(run)
    api.wait_for_state(run, "Cancelled", seconds=CHECK_SECONDS + 20)
    assert "Flow run is cancelled" in api.states(run)[-1]["message"], "its own process said so, not the agent"


def test_a_flow_that_holds_the_gil_keeps_a_fresh_heartbeat(agent: Path, api: Api, flows: Mapping[str, str]) -> None:
    """Its own heartbeat thread gets no turn; the Server would take it for dead after a while."""
    run = api.create_flow_run(flows["gil"], parameters={"seconds": _GIL_SECONDS})
    api.wait_for_state(run, "Running")
    oldest = 0.0
    while api.state(run) == "Running":
        oldest = max(oldest, _heartbeat_age_seconds(api, run))
        wait_until(lambda: True, agent.read_text)
    api.wait_for_state(run, "Success")
    assert 55 < oldest < _FRESH_SECONDS, f"its heartbeat was up to {oldest:.0f} s old"


def _heartbeat_age_seconds(api: Api, run: str) -> float:
    heartbeat = api.flow_run(run, "heartbeat")["heartbeat"]
    return (datetime.now(UTC) - datetime.fromisoformat(heartbeat)).total_seconds()
