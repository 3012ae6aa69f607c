"""The real prefect 1.4.1's command line and client against the API: registering, looking, creating, deleting."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api import Api
from support.real_prefect import Prefect

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(400)]

KEY = "k3y-of-these-tests"


def test_registered_flows(api: Api, flows: dict[str, str]) -> None:
    fields = "name version core_version run_config storage schedule tasks_aggregate { aggregate { count } }"
    edges = "edges_aggregate { aggregate { count } }"
    query = f"query($id: uuid!) {{ flow_by_pk(id: $id) {{ {fields} {edges} }} }}"
    mapped, many = (api.graphql(query, {"id": flows[name]})["flow_by_pk"] for name in ("mapped", "many"))
    assert (mapped["name"], mapped["version"], mapped["core_version"]) == ("mapped", 1, "1.4.1")
    assert mapped["run_config"]["env"] == {"FROM_RUN_CONFIG": "1"}
    assert mapped["storage"]["type"] == "Local"
    assert mapped["tasks_aggregate"]["aggregate"]["count"] == 4
    # more tasks than Prefect sends in one request
    assert many["tasks_aggregate"]["aggregate"]["count"] > 600
    assert many["edges_aggregate"]["aggregate"]["count"] > 600


def test_a_schedule_is_said_not_to_be_followed(api: Api, flows: dict[str, str]) -> None:
    said = [line for line in api.console.splitlines() if "flow scheduled has a schedule" in line]
    assert len(said) == 1
    (flow,) = api.graphql('{ flow(where: {name: {_eq: "scheduled"}}) { id schedule flow_runs { id } } }')["flow"]
    assert (flow["id"], flow["flow_runs"]) == (flows["scheduled"], [])
    assert flow["schedule"]["clocks"][0]["type"] == "IntervalClock"


def test_get_and_describe(prefect: Prefect, flows: dict[str, str]) -> None:
    listed = prefect.cli("get", "flows", "--limit", "20")
    for name, flow in flows.items():
        assert name in listed
        assert flow in listed
    assert flows["mapped"] in prefect.cli("get", "flows", "--name", "mapped", "--version", "1", "--project", "real")
    assert "real" in prefect.cli("get", "projects")
    tasks = prefect.cli("get", "tasks", "--flow-name", "mapped", "--project", "real")
    assert "square" in tasks
    assert '"description": null' in prefect.cli("describe", "flows", "--name", "mapped")
    assert '"slug": "square-1"' in prefect.cli("describe", "tasks", "--name", "mapped", "--project", "real")


def test_creating_and_deleting(api: Api, prefect: Prefect, flows: dict[str, str]) -> None:
    assert "short-lived" in prefect.cli("create", "project", "short-lived", "--description", "d")
    assert "short-lived" in prefect.cli("get", "projects", "--name", "short-lived")
    prefect.cli("delete", "project", "short-lived")
    assert "short-lived" not in prefect.cli("get", "projects")
    run = prefect.cli("run", "--id", flows["many"], "--run-name", "by-hand", "--quiet").strip()
    assert api.flow_run(run, "name labels state") == {"name": "by-hand", "labels": ["nobody"], "state": "Scheduled"}
    assert len(api.task_runs(run)) > 600


def test_the_library(api: Api, prefect: Prefect, flows: dict[str, str]) -> None:
    program = f"""
import json, pendulum, prefect
from prefect.engine.state import Scheduled
from prefect.exceptions import ClientError
client = prefect.Client()
start = pendulum.now("utc").add(hours=1)
given = dict(flow_id={flows["mapped"]!r}, scheduled_start_time=start, labels=["a"], idempotency_key="k")
run, again = client.create_flow_run(**given), client.create_flow_run(**given)
info = client.get_flow_run_info(run)
task = client.get_task_run_info(run, info.task_runs[0].task_id, map_index=7)
artifact = client.create_task_run_artifact(task.id, kind="link", data={{"link": "x"}})
client.update_task_run_artifact(artifact, {{"link": "y"}})
client.delete_task_run_artifact(artifact)
client.set_task_run_name(task.id, "seventh")
renamed = client.set_flow_run_name(run, "renamed")
client.write_run_logs([dict(flow_run_id=run, message="hello", level="INFO", name="x")])
client.update_flow_run_heartbeat(run)
client.set_flow_run_state(run, state=Scheduled("later", start_time=start))
cancelled = client.cancel_flow_run(run)
project, same_project = client.create_project("real"), client.create_project("real")
try:
    client.graphql("mutation {{ fly_to_the_moon {{ id }} }}")
    said = ""
except ClientError as error:
    said = str(error)
print(json.dumps([run == again and project == same_project, renamed, cancelled, said, run]))
"""
    same, renamed, cancelled, said, run = prefect.script(program)
    assert (same, renamed, cancelled) == (True, True, "Cancelled")
    assert "This API has no mutation 'fly_to_the_moon'" in said
    assert api.flow_run(run, "name labels") == {"name": "renamed", "labels": ["a"]}
    assert api.state_types(run) == ["Scheduled", "Scheduled", "Cancelled"]
    assert api.messages(run) == ["hello"]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, Prefect]]:
    """An API with a key, and a Prefect that takes it for Prefect Cloud."""
    with Api(tmp_path_factory.mktemp("keyed") / "server.db", key=KEY) as running:
        yield running, Prefect(tmp_path_factory.mktemp("keyed-home"), running)


def test_logging_in_with_a_key(keyed: tuple[Api, Prefect]) -> None:
    api, prefect = keyed
    printed = prefect.cli("auth", "login", "--key", KEY)
    assert "Logged in" in printed
    stored = (Path(prefect.home) / ".prefect/auth.toml").read_text()
    assert KEY in stored
    assert api.tenant_id in stored
    assert "cloud-project" in prefect.cli("create", "project", "cloud-project")
    name = f"pair-{uuid.uuid4().hex[:6]}"
    prefect.cli("kv", "set", name, "1")
    assert "has value '1'" in prefect.cli("kv", "get", name)


def test_secrets_with_a_key(keyed: tuple[Api, Prefect]) -> None:
    _, prefect = keyed
    program = f"""
import json, prefect
from prefect.client import Secret
client = prefect.Client(api_key={KEY!r})
client.set_secret("S", {{"password": "p"}})
with prefect.context(secrets={{}}):
    print(json.dumps([Secret("S").get(), client.tenant_id]))
"""
    environment = {"PREFECT__CLOUD__API_KEY": KEY, "PREFECT__CLOUD__USE_LOCAL_SECRETS": "false"}
    secret, tenant = prefect.script(program, environment=environment)
    assert secret == {"password": "p"}
    assert tenant == keyed[0].tenant_id


def test_a_wrong_key(keyed: tuple[Api, Prefect]) -> None:
    program = """
import json, prefect
from prefect.exceptions import AuthorizationError
try:
    prefect.Client(api_key="wrong").graphql("{ hello }")
    said = ""
except AuthorizationError as error:
    said = str(error)
print(json.dumps(said))
"""
    assert "UNAUTHENTICATED" in keyed[1].script(program)
