"""The command and environment of a flow run: who wins over whom, as with Prefect's own agent."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local_agent.backends.environment import scrubbed
from local_agent.backends.prefect1.access import Access
from local_agent.backends.prefect1.child import child
from local_agent.backends.prefect1.detail import RunConfig
from local_agent.errors import StateError
from local_agent.model import Child
from local_agent.settings.secret import Secret
from support import samples

_TENANT = "11111111-1111-4111-8111-111111111111"
_LEVEL, _LOGS = "PREFECT__LOGGING__LEVEL", "PREFECT__CLOUD__SEND_FLOW_RUN_LOGS"
_HEARTBEAT = "PREFECT__CLOUD__HEARTBEAT_MODE"


def _child(
    run_env: dict[str, str | None] | None = None,
    environ: dict[str, str] | None = None,
    *,
    working_dir: str | None = None,
    **settings: Any,  # noqa: ANN401 - settings are of many types
) -> Child:
    run = samples.flow_run(run_config=RunConfig("LocalRun", run_env or {}, working_dir))
    return child(run, samples.settings(**settings), environ or {}, _TENANT)


def test_the_command() -> None:
    assert _child(python=Path("/opt/flows/bin/python")).argv == (
        *("/opt/flows/bin/python", "-m", "prefect", "execute", "flow-run"),
    )


def test_what_a_child_needs_to_find_its_run() -> None:
    env = _child(api="http://api:4200", labels=("a", "it's"), hostname="host1").env
    assert env["PREFECT__BACKEND"] == "server"
    assert env["PREFECT__CLOUD__API"] == "http://api:4200"
    assert env["PREFECT__CONTEXT__FLOW_RUN_ID"] == samples.RUN_ID
    assert env["PREFECT__CONTEXT__FLOW_ID"] == samples.FLOW_ID
    assert env["PREFECT__CLOUD__USE_LOCAL_SECRETS"] == "false"
    assert env["PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS"] == "prefect.engine.cloud.CloudFlowRunner"
    assert env["PREFECT__CLOUD__AGENT__LABELS"] == """['a', "it's", 'host1']"""
    assert "PREFECT__CLOUD__API_KEY" not in env
    assert "PREFECT__CLOUD__TENANT_ID" not in env


def test_a_key_brings_its_tenant() -> None:
    env = _child(api_key=Secret("s3cret")).env
    assert env["PREFECT__CLOUD__API_KEY"] == "s3cret"
    assert env["PREFECT__CLOUD__TENANT_ID"] == _TENANT


def test_behind_a_unix_socket_it_asks_where_it_is_told() -> None:
    settings = samples.settings(api="unix:///run/api.sock", api_key=Secret("s3cret"))
    env = child(samples.flow_run(), settings, {}, _TENANT, Access("http://127.0.0.1:4200", "handed-out")).env
    assert env["PREFECT__CLOUD__API"] == "http://127.0.0.1:4200"
    assert env["PREFECT__CLOUD__API_KEY"] == "handed-out"
    assert env["PREFECT__CLOUD__TENANT_ID"] == _TENANT
    assert "s3cret" not in str(env)


def test_later_wins() -> None:
    steps = ["agent's own", "--env", "run_config"]
    environ = dict.fromkeys("ABC", steps[0])
    env = _child({"C": steps[2]}, environ, env={"B": steps[1], "C": steps[1]}).env
    assert [env[name] for name in "ABC"] == steps


def test_null_takes_a_variable_away() -> None:
    env = _child({"A": None, "B": None}, {"A": "1", "C": "3"}, env={"B": "2"}).env
    assert "A" not in env
    assert "B" not in env
    assert env["C"] == "3"


def test_nobody_overrides_which_run_it_is() -> None:
    forced = {
        "PREFECT__CONTEXT__FLOW_RUN_ID": "other",
        "PREFECT__CLOUD__API": "http://other",
        "PREFECT__CLOUD__AGENT__LABELS": "[]",
    }
    env = _child(dict(forced), forced, env=forced, api="http://api:4200", hostname_label=False).env
    assert env["PREFECT__CONTEXT__FLOW_RUN_ID"] == samples.RUN_ID
    assert env["PREFECT__CLOUD__API"] == "http://api:4200"
    assert env["PREFECT__CLOUD__AGENT__LABELS"] == "[]"


@pytest.mark.parametrize(
    ("run_env", "agent_env", "level"),
    [({}, {}, "WARNING"), ({}, {_LEVEL: "ERROR"}, "ERROR"), ({_LEVEL: "DEBUG"}, {_LEVEL: "ERROR"}, "DEBUG")],
)
def test_the_log_level_is_a_default(run_env: dict[str, str | None], agent_env: dict[str, str], level: str) -> None:
    assert _child(run_env, {_LEVEL: "CRITICAL"}, env=agent_env, flow_log_level="WARNING").env[_LEVEL] == level


@pytest.mark.parametrize(
    ("cloud_logs", "run_env", "sent"),
    [(True, {}, "true"), (True, {_LOGS: "false"}, "false"), (False, {}, "false"), (False, {_LOGS: "true"}, "false")],
)
def test_logs_can_be_turned_off_for_all_and_by_a_run_for_itself(
    cloud_logs: bool, run_env: dict[str, str | None], sent: str
) -> None:
    assert _child(run_env, cloud_logs=cloud_logs).env[_LOGS] == sent


@pytest.mark.parametrize(
    ("run_env", "agent_env", "mode", "sends"),
    [
        ({}, {}, "thread", True),
        ({}, {_HEARTBEAT: "process"}, "process", True),
        ({_HEARTBEAT: "off"}, {_HEARTBEAT: "process"}, "off", False),
    ],
)
def test_a_run_or_env_may_choose_another_heartbeat(
    run_env: dict[str, str | None], agent_env: dict[str, str], mode: str, sends: bool
) -> None:
    made = _child(run_env, env=agent_env)
    assert made.env[_HEARTBEAT] == mode
    assert made.sends_heartbeat is sends, "nobody sends it for who has turned it off"


def test_modules_are_looked_for_in_the_runs_folder_then_as_before_then_in_import_paths(tmp_path: Path) -> None:
    made = _child({}, {"PYTHONPATH": "/old:/older"}, working_dir=str(tmp_path), import_paths=("/p1", "/p 2"))
    assert made.working_dir == tmp_path
    assert made.env["PYTHONPATH"] == f"{tmp_path}:/old:/older:/p1:/p 2"
    assert _child().env["PYTHONPATH"] == str(Path.cwd()), "no empty parts: they would mean the current folder"
    assert _child({"PYTHONPATH": "/mine"}, import_paths=("/p1",)).env["PYTHONPATH"] == "/mine"


def test_a_run_without_a_folder_runs_in_the_agents() -> None:
    assert _child().working_dir == Path.cwd()


def test_a_relative_folder_is_one_below_the_agents(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    with contextlib.chdir(tmp_path):
        assert _child(working_dir="flows").working_dir == tmp_path / "flows"


def test_whether_a_folder_is_there_is_not_asked_here() -> None:
    """It may be on another machine: its launcher asks."""
    assert _child(working_dir="/nope").working_dir == Path("/nope")


def test_an_agent_whose_own_folder_is_gone_fails_no_run(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with contextlib.chdir(gone):
        gone.rmdir()
        with pytest.raises(StateError, match="is gone"):
            _child()


_AS_SOMEBODY_ELSE = """
import os, sys
from local_agent.backends.prefect1.child import child
from local_agent.backends.prefect1.detail import RunConfig
from local_agent.errors import StateError
from support import samples
os.chdir(sys.argv[1])
os.chmod(".", 0o600)
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
try:
    child(samples.flow_run(run_config=RunConfig("LocalRun", {}, None)), samples.settings(), {}, "")
except StateError as error:
    print(error.message)
"""


def test_an_agent_that_may_not_enter_its_own_folder_fails_no_run(tmp_path: Path) -> None:
    """As a service is that another user starts there: where it stands it stays, and no process of its own gets in."""
    own = tmp_path / "own"
    own.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _AS_SOMEBODY_ELSE, str(own)],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout == "the folder that this agent was started in cannot be entered: Permission denied\n"


def test_what_systemd_told_the_agent_is_not_for_its_flow_runs() -> None:
    told = {
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": "1",
        "INVOCATION_ID": "x",
        "JOURNAL_STREAM": "8:1",
        "CREDENTIALS_DIRECTORY": "/run/credentials",
        "STATE_DIRECTORY": "/var/lib/local-agent/prod1",
        "RUNTIME_DIRECTORY": "/run/local-agent",
        "LISTEN_FDS": "1",
        "LISTEN_PID": "1",
        "LISTEN_FDNAMES": "x",
        "SYSTEMD_EXEC_PID": "1",
        "LOCAL_AGENT_API_KEY": "s3cret",
    }
    usual = {"PATH": "/usr/bin", "HOME": "/root", "LANG": "C.UTF-8", "WATCHDOGS": "2", "MY_STATE_DIRECTORY": "/x"}
    assert scrubbed({**told, **usual}) == usual


def test_hints_for_its_limits_stay_visible_to_the_run() -> None:
    assert _child({"LOCAL_AGENT_MEMORY_MAX": "1G"}).env["LOCAL_AGENT_MEMORY_MAX"] == "1G"
