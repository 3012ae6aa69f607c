"""A real flow run of an agent that reaches its API by a unix socket: Prefect's own client has a key for TCP."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from support import real_flows
from support.agent import SAYS_VERSION, AgentProcess
from support.api import Api
from support.prefect_venv import prefect_python
from support.registered_flows import register

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(300)]

KEY = "the-administrators"


def test_a_flow_run_and_its_children(tmp_path: Path) -> None:
    script = f'{SAYS_VERSION}\nexec {prefect_python()} "$@"'
    environ = real_flows.environment("http://nobody.invalid", str(tmp_path))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "api.sock"
        with (
            Api(tmp_path / "server.db", options=["--socket", str(place)], key=KEY) as api,
            AgentProcess(tmp_path / "agent", f"unix://{place}", environ=environ, python=script) as agent,
        ):
            parent = register(api.url, agent.label, tmp_path, KEY)["parent"]
            run = api.create_flow_run(parent)
            api.wait_for_state(run, "Success", seconds=200)
            agent.wait_until_forgotten()
            assert KEY not in agent.console
