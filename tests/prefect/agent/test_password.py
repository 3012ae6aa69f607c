"""A real flow run behind a proxy that asks for a user and a password: its own requests carry them too."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import real_flows
from support.agent import SAYS_VERSION, AgentProcess
from support.api import Api
from support.nginx import with_password
from support.prefect_venv import prefect_python
from support.registered_flows import register

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(300)]


def test_a_flow_run_behind_a_password(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api, with_password(tmp_path / "nginx", api.url) as url:
        environ = real_flows.environment("http://nobody.invalid", str(tmp_path))
        script = f'{SAYS_VERSION}\nexec {prefect_python()} "$@"'
        with AgentProcess(tmp_path / "agent", url, environ=environ, python=script) as agent:
            run = api.create_flow_run(register(api.url, agent.label, tmp_path)["hello"])
            api.wait_for_state(run, "Success", seconds=120)
            agent.wait_until_forgotten()
            assert "s3cret" not in agent.console + "".join(api.messages(run))
