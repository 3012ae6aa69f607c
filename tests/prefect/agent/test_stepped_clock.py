"""A wall clock that is set back while a real flow run starts: Prefect then ends with 0 and has done nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import real_flows
from support.agent import SAYS_VERSION, AgentProcess
from support.api import Api, wait_until
from support.prefect_venv import prefect_python
from support.registered_flows import register
from support.unpacked import faketime

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(300)]

# The first flow run finds its clock a minute back, longer than any start takes; so does the agent from then on.
# The file is replaced, so nobody reads it half-written.
_STEPS_BACK = """\
[ "$1" = -c ] || {
    mkdir "$FAKETIME_TIMESTAMP_FILE.stepped" 2>/dev/null &&
        echo -60 >"$FAKETIME_TIMESTAMP_FILE.new" && mv "$FAKETIME_TIMESTAMP_FILE.new" "$FAKETIME_TIMESTAMP_FILE"
}
"""


def test_a_clock_that_is_set_back_fails_no_run(tmp_path: Path) -> None:
    stamp = tmp_path / "clock"
    _set_clock(stamp, "+0")
    clock = {
        "LD_PRELOAD": str(faketime()),
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    script = f'{SAYS_VERSION}\n{_STEPS_BACK}exec {prefect_python()} "$@"'
    with Api(tmp_path / "server.db") as api:
        environ = {**real_flows.environment(api.url, str(tmp_path)), **clock}
        with AgentProcess(tmp_path / "agent", api.url, environ=environ, python=script) as agent:
            flow = register(api.url, agent.label, tmp_path)["hello"]
            agent.wait_for("Registered at")
            run = api.create_flow_run(flow)
            scheduled_again = ["Scheduled", "Submitted", "Scheduled"]
            wait_until(lambda: api.state_types(run) == scheduled_again, lambda: agent.said, seconds=120)
            _set_clock(stamp, "+0")
            api.wait_for_state(run, "Success", seconds=120)
            agent.wait_until_forgotten()
            assert api.state_types(run) == ["Scheduled", "Submitted", "Scheduled", "Submitted", "Running", "Success"]
            assert "clock stood before its start time" in api.states(run)[2]["message"], agent.said


def _set_clock(stamp: Path, seconds: str) -> None:
    new = stamp.with_name("clock.set")
    new.write_text(f"{seconds}\n")
    new.replace(stamp)
