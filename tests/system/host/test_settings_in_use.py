"""`config --instance`, `status` and `doctor` show what the agent uses or its unit gives it, and never root's own."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from support.api import wait_until
from system.host.conftest import PYTHON, Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_VARIABLES = "/etc/prod1.variables"
_DROP_IN = f"""\
[Service]
Environment=LOCAL_AGENT_LIMIT=7 "LOCAL_AGENT_ENV={{'MY_TOKEN': 'hidden-word', 'SEEN': 'yes'}}"
EnvironmentFile={_VARIABLES}
ExecStart=
ExecStart=/usr/bin/local-agent start --instance %i --label extra --label "${{MORE_LABEL}}"
"""


@pytest.fixture
def set_up(host: Host) -> Iterator[Host]:
    """prod1 with settings in its unit, in a file of variables and on its command line; root has others at home."""
    machine = host.machine
    machine.write(_VARIABLES, "# of prod1\nLOCAL_AGENT_POLL_INTERVAL='33s'\nMORE_LABEL=more\n", mode=0o600)
    machine.write("/root/.prefect/config.toml", '[cloud.agent]\nname = "roots own"\n')
    host.instance.drop_in(_DROP_IN)
    host.start()
    _well(host)
    yield host
    machine.run(f"rm -rf {_VARIABLES} /root/.prefect")


def _well(host: Host) -> None:
    wait_until(lambda: host.type("status", check=False).returncode == 0, host.instance.journal)


def _config(host: Host, more: str = "", user: str = "root") -> tuple[dict[str, Any], str]:
    """Type it where the shell has settings of its own, and return what it printed."""
    line = f"LOCAL_AGENT_LIMIT=99 local-agent config --instance prod1 --json {more}"
    done = host.machine.run(["sh", "-c", line], user=user)
    assert "hidden-word" not in done.stdout + done.stderr
    return json.loads(done.stdout), done.stderr


def _values(shown: dict[str, Any]) -> dict[str, Any]:
    return {key: one["value"] for key, one in shown["settings"].items()}


def _expected(shown: dict[str, Any]) -> None:
    values = _values(shown)
    assert (values["limit"], values["poll_interval"], values["name"]) == (7, 33, "prod1")
    assert set(values["labels"]) == {"extra", "more"}
    assert values["state_dir"] == "/var/lib/local-agent/prod1"
    assert values["env"] == {"MY_TOKEN": "********", "SEEN": "yes"}
    assert values["python"] == PYTHON
    assert shown["settings"]["limit"]["source"]["name"] == "LOCAL_AGENT_LIMIT"


def test_the_running_agent_is_asked_and_a_stopped_ones_unit_is_read(set_up: Host) -> None:
    shown, said = _config(set_up)
    assert shown["from"] == "agent"
    assert "this is what the running agent uses, process " in said
    _expected(shown)
    asked = dict(shown)

    shown, said = _config(set_up, "--cancel-grace 3")
    assert shown["from"] == "unit"
    _expected(shown)
    assert _values(shown)["cancel_grace"] == 3
    assert shown["settings"]["cancel_grace"]["source"]["kind"] == "flag"

    set_up.machine.run(["systemctl", "stop", set_up.instance.unit])
    shown, said = _config(set_up)
    assert shown["from"] == "unit"
    assert "what local-agent@prod1.service gives it, read as local-agent" in said
    _expected(shown)
    assert shown["settings"] == asked["settings"], "what a start makes of it is what the agent had"

    _, said = _config(set_up, user="alice")
    assert "what `start` would make of it in this shell" in said


def test_a_credential_is_the_units_own(set_up: Host) -> None:
    set_up.machine.write("/etc/prod1.key", "hidden-word\n", mode=0o600)
    try:
        set_up.instance.drop_in(f"{_DROP_IN}LoadCredential=api-key:/etc/prod1.key\n")
        set_up.machine.run(["systemctl", "stop", set_up.instance.unit])
        shown, _ = _config(set_up)
        assert shown["settings"]["api_key"]["value"] == "********"
        assert shown["settings"]["api_key"]["source"]["kind"] == "credential"
    finally:
        set_up.machine.run("rm /etc/prod1.key")


def _waits(host: Host) -> tuple[list[str], list[str]]:
    (one,) = host.read("status --instance prod1")["instances"]
    return one["waits_for_reload"], one["waits_for_restart"]


def _doctor(host: Host) -> dict[str, tuple[str, str]]:
    found = host.read("doctor --instance prod1")["findings"]
    waiting = [one for one in found if one["check"] == "settings in use"]
    return {one["verdict"]: (one["evidence"], one["fix"]) for one in waiting}


def test_what_waits_is_said_until_it_is_applied(set_up: Host) -> None:
    assert _waits(set_up) == ([], [])
    assert _doctor(set_up) == {}
    set_up.instance.configure(python=PYTHON, more='cancel_grace = 5\nlauncher = "process"')
    assert _waits(set_up) == (["cancel_grace"], ["launcher"])
    done = set_up.type("status")
    assert (
        "note: prod1: cancel_grace changed since the agent read it: local-agent reload --instance prod1" in done.stderr
    )
    restart = "systemctl restart local-agent@prod1.service"
    assert f"note: prod1: launcher changed and waits for a restart: {restart}" in done.stderr
    found = set_up.read("doctor --instance prod1")["findings"]
    waiting = [(one["verdict"], one["fix"]) for one in found if one["check"] == "settings in use"]
    assert waiting == [("warning", restart), ("warning", "local-agent reload --instance prod1")]

    set_up.machine.run(shlex.split(waiting[1][1]))
    assert _waits(set_up) == ([], ["launcher"])
    assert "waits for a restart" in _config(set_up)[1]
    set_up.machine.run(shlex.split(restart))
    _well(set_up)
    assert _waits(set_up) == ([], [])
    assert _doctor(set_up) == {}


def test_what_the_unit_says_now_is_said_to_wait_for_a_restart(set_up: Host) -> None:
    """The agent cannot know of it: it has the variables of its start."""
    set_up.instance.drop_in(_DROP_IN.replace("LIMIT=7", "LIMIT=8"))
    assert _doctor(set_up).get("warning", ("", ""))[0].startswith("limit changed and waits for a restart")
    set_up.machine.run(["systemctl", "restart", set_up.instance.unit])
    _well(set_up)
    assert _doctor(set_up) == {}


def test_settings_that_a_restart_would_refuse(set_up: Host) -> None:
    set_up.instance.configure(python=PYTHON, more="limitt = 5")
    done = set_up.type("status", check=False)
    assert "goes on with settings that a restart would refuse now" in done.stderr
    assert "limitt" in done.stderr
    assert _config(set_up)[0]["from"] == "agent"
    found = set_up.read("doctor --instance prod1")["findings"]
    assert "failure" in {one["verdict"] for one in found if one["check"] == "settings"}
