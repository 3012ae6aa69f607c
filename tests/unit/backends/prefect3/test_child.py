"""The command and environment of a flow run of a work pool: who wins over whom, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from local_agent.backends.prefect3.access import Access
from local_agent.backends.prefect3.child import BOOT, HOOKS, Children
from local_agent.backends.prefect3.detail import Detail
from local_agent.errors import ApiRefusedError, ApiUnreachableError, LaunchError, NotUnderstoodError
from local_agent.model import Child
from local_agent.settings.option import Source, SourceKind
from support import samples

_DEPLOYMENT = "22222222-2222-4222-8222-222222222222"
_ACCESS = Access("http://api:4200/api", "", "me:s3cret")


@dataclass
class Api:
    """An API that knows these paths."""

    answers: Mapping[str, Any] = field(default_factory=dict)

    async def get(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        if path not in self.answers:
            raise ApiRefusedError("not found", code="404")
        answer = self.answers[path]
        if isinstance(answer, Exception):
            raise answer
        return answer


def child(
    variables: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    deployment: object = None,
    access: Access = _ACCESS,
    flow_name: str = "report",
    **settings: Any,  # noqa: ANN401 - settings are of many types
) -> Child:
    run = replace(samples.flow_run(), flow_name=flow_name, detail=Detail(samples.FLOW_ID, _DEPLOYMENT, variables or {}))
    api = Api({f"/deployments/{_DEPLOYMENT}": deployment or {"name": "daily", "job_variables": {}}})
    children = Children(api, access, "prod1 on host1", lambda: samples.settings(**settings), environ or {})
    return asyncio.run(children.child(run, {}))


def test_the_flows_own_interpreter_runs_our_boot() -> None:
    found = child(python=Path("/opt/flows/bin/python"))
    assert found.argv == ("/opt/flows/bin/python", str(BOOT))
    assert found.has_control
    assert not found.stops_itself
    assert found.working_dir is None
    assert BOOT.is_file()


def test_what_the_engine_needs_to_find_its_run() -> None:
    env = child().env
    assert env == {
        "PREFECT_API_URL": "http://api:4200/api",
        "PREFECT_API_AUTH_STRING": "me:s3cret",
        "PREFECT__FLOW_RUN_ID": samples.RUN_ID,
        "PREFECT__FLOW_ID": samples.FLOW_ID,
        "PREFECT__FLOW_NAME": "report",
        "PREFECT__DEPLOYMENT_ID": _DEPLOYMENT,
        "PREFECT__DEPLOYMENT_NAME": "daily",
        "PREFECT__WORKER_NAME": "prod1 on host1",
    }


def test_the_way_to_the_api_is_the_agents() -> None:
    access = Access("https://api/api", "key", headers={"X-Team": "data"}, verify="/etc/ca.pem")
    env = child(access=access).env
    assert env["PREFECT_API_KEY"] == "key"
    assert env["PREFECT_CLIENT_CUSTOM_HEADERS"] == '{"X-Team": "data"}'
    assert env["PREFECT_API_SSL_CERT_FILE"] == "/etc/ca.pem"
    assert child(access=replace(access, verify=False)).env["PREFECT_API_TLS_INSECURE_SKIP_VERIFY"] == "true"


def test_what_is_the_agents_own_stays_with_it() -> None:
    environ = {
        "HOME": "/home/me",
        "PREFECT_HOME": "/srv/prefect",
        "LOCAL_AGENT_API_KEY": "s3cret",
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "PREFECT__FLOW_RUN_ID": "another",
        "PREFECT__CONTROL_PORT": "1",
        "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",
    }
    env = child(environ=environ).env
    assert env["HOME"] == "/home/me"
    assert env["PREFECT_HOME"] == "/srv/prefect"
    assert env["PREFECT__FLOW_RUN_ID"] == samples.RUN_ID
    assert not env.keys() & (environ.keys() - {"HOME", "PREFECT_HOME", "PREFECT__FLOW_RUN_ID"})


def test_the_run_wins_over_the_administrator_and_null_takes_away() -> None:
    variables = {"env": {"A": "run", "GONE": None, "PREFECT_API_URL": "http://elsewhere/api"}}
    env = child(
        variables, {"A": "agent", "GONE": "1", "B": "agent"}, env={"A": "admin", "B": "admin", "C": "admin"}
    ).env
    assert (env["A"], env["B"], env["C"]) == ("run", "admin", "admin")
    assert "GONE" not in env
    assert env["PREFECT_API_URL"] == "http://elsewhere/api"


def test_nobody_makes_it_another_run() -> None:
    assert child({"env": {"PREFECT__FLOW_RUN_ID": "x"}}).env["PREFECT__FLOW_RUN_ID"] == samples.RUN_ID


def test_settings_for_its_log_and_its_imports() -> None:
    given = {"flow_log_level": Source(SourceKind.FILE, "flow_log_level")}
    env = child(flow_log_level="DEBUG", sources=given, cloud_logs=False, import_paths=("/srv/lib",)).env
    assert env["PREFECT_LOGGING_LEVEL"] == "DEBUG"
    assert env["PREFECT_LOGGING_TO_API_ENABLED"] == "false"
    assert env["PYTHONPATH"] == "/srv/lib"
    assert "PREFECT_LOGGING_LEVEL" not in child(flow_log_level="NOTSET", sources=given).env


def test_a_name_that_no_header_holds_is_left_out() -> None:
    assert "PREFECT__FLOW_NAME" not in child(flow_name="größe").env


def test_a_command_of_its_own() -> None:
    found = child({"command": "prog 'two words' --x", "working_dir": "/srv/flows"})
    assert found.argv == ("prog", "two words", "--x")
    assert found.working_dir == Path("/srv/flows")
    assert not found.has_control
    assert not found.stops_itself
    assert child({"command": "prefect flow-run execute"}).stops_itself


def test_limits_are_asked_for_by_name_or_by_variable() -> None:
    variables = {"memory": "1G", "env": {"LOCAL_AGENT_MEMORY_MAX": "2G", "LOCAL_AGENT_NICE": "5", "OTHER": "x"}}
    assert child(variables).asked == {"memory_max": "1G", "LOCAL_AGENT_NICE": "5"}


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"memory": "lots"}, "memory = 'lots'"),
        ({"tasks": "0"}, "tasks = '0'"),
        ({"nice": 50}, "nice = '50'"),
        ({"runtime": "-1s"}, "runtime = '-1s'"),
        ({"command": "echo 'half"}, "command"),
        ({"command": "  "}, "command"),
        ({"command": "a\0b"}, "command"),
        ({"working_dir": "/srv/\0"}, "working_dir"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(variables: Mapping[str, Any], says: str) -> None:
    with pytest.raises(LaunchError) as caught:
        child(variables)
    assert says in caught.value.message
    assert caught.value.hint


def test_a_deployment_that_is_gone_is_named() -> None:
    with pytest.raises(LaunchError, match=_DEPLOYMENT):
        child(deployment=ApiRefusedError("not found", code="404"))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ApiUnreachableError("no answer"), ApiUnreachableError),
        (ApiRefusedError("no", code="422"), ApiRefusedError),
        (["no object"], NotUnderstoodError),
        ({"name": 3}, NotUnderstoodError),
        ({"job_variables": "text"}, NotUnderstoodError),
    ],
)
def test_what_the_api_says_wrong_is_no_fault_of_the_runs(answer: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        child(deployment=answer)


def test_a_run_without_a_deployment_asks_for_none() -> None:
    run = replace(samples.flow_run(), detail=Detail(samples.FLOW_ID))
    children = Children(Api(), _ACCESS, "w", samples.settings, {})
    assert "PREFECT__DEPLOYMENT_ID" not in asyncio.run(children.child(run, {})).env


def _hooks(state: str = "CRASHED", wrong: Mapping[str, object] | None = None, **variables: object) -> Child | None:
    run = {
        "id": samples.RUN_ID,
        "name": "calm-otter",
        "flow_id": samples.FLOW_ID,
        "deployment_id": _DEPLOYMENT,
        "job_variables": variables,
        "state_type": state,
        "state": {"type": state, "name": state.title()},
        **(wrong or {}),
    }
    answers = {f"/flow_runs/{samples.RUN_ID}": run, f"/deployments/{_DEPLOYMENT}": {"name": "daily"}}
    children = Children(Api(answers), _ACCESS, "w", samples.settings, {})
    return asyncio.run(children.hooks(samples.RUN_ID, {}))


def test_the_hooks_of_a_crashed_run_have_all_that_it_had() -> None:
    found = _hooks(env={"A": "run"}, working_dir="/srv/flows")
    assert found is not None
    assert found.argv == ("/opt/flows/bin/python", str(HOOKS))
    assert HOOKS.is_file()
    assert (found.env["PREFECT__FLOW_RUN_ID"], found.env["A"]) == (samples.RUN_ID, "run")
    assert found.working_dir == Path("/srv/flows")
    assert not found.has_control


def test_there_are_no_hooks_to_run_of_what_is_not_crashed_or_was_not_ours_to_load() -> None:
    assert _hooks("CANCELLED") is None
    assert _hooks(wrong={"deployment_id": None}) is None
    assert _hooks(command="prog") is None


@pytest.mark.parametrize("wrong", [{"flow_id": 3}, {"state": []}, {"job_variables": "text"}])
def test_a_run_that_is_not_understood_has_no_hooks(wrong: Mapping[str, object]) -> None:
    with pytest.raises(NotUnderstoodError):
        _hooks(wrong=wrong)


def test_no_secret_is_shown_or_is_an_argument() -> None:
    found = child({"env": {"TOKEN": "t0ken"}})
    assert "s3cret" not in repr(found)
    assert "t0ken" not in repr(found)
    assert not any("s3cret" in word or "t0ken" in word for word in found.argv)
