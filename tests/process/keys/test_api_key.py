"""An API that asks for a key: from each place the key reaches the API and the flow run, and nobody else sees it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from local_agent.errors import CredentialError
from support.agent import AgentProcess, command_of
from support.api import Api
from support.api_client import wait_until
from support.faults import FaultyProxy

KEY = "key-that-nobody-may-see-0123456789"
_IN_THE_LIST_OF_PROCESSES = "other users of this machine can read the key in the list of processes"
# Notes what it was given, and goes on until it is ended.
_FLOW_RUN = """\
if [ "$1" = -c ]; then echo 1.4.1; exit; fi
printf '%s %s' "$PREFECT__CLOUD__API_KEY" "$PREFECT__CLOUD__TENANT_ID" >"$SEEN.new" && mv "$SEEN.new" "$SEEN"
exec sleep 1000
"""


@dataclass(frozen=True)
class Place:
    """Somewhere that a key can be; {folder} and {api} stand for the test's."""

    options: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


PLACES = {
    "credential": Place(variables={"CREDENTIALS_DIRECTORY": "{folder}/creds"}, files={"creds/api-key": KEY}),
    "file": Place(files={"etc/agent.toml": 'api_key_file = "{folder}/key"\n', "key": f"{KEY}\n"}),
    "variable": Place(variables={"LOCAL_AGENT_API_KEY": KEY}),
    "prefect's variable": Place(variables={"PREFECT__CLOUD__API_KEY": KEY}),
    "auth.toml": Place(files={".prefect/auth.toml": f'["{{api}}"]\napi_key = "{KEY}"\n'}),
    "command line": Place(options=("-k", KEY)),
}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that wants the key."""
    with Api(tmp_path_factory.mktemp("keyed") / "server.db", key=KEY) as api:
        yield api


def _agent(folder: Path, url: str, place: Place) -> AgentProcess:
    words = {"folder": str(folder), "api": url.removeprefix("http://").replace(":", "-")}
    for name, text in place.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(**words))
        path.chmod(0o600)
    variables = {name: text.format(**words) for name, text in place.variables.items()}
    return AgentProcess(
        folder, url, *place.options, environ={"SEEN": str(folder / "seen"), **variables}, python=_FLOW_RUN
    )


@pytest.mark.parametrize("name", PLACES)
def test_only_the_flow_run_gets_the_key(keyed: Api, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "agent"
    with _agent(folder, keyed.url, PLACES[name]) as agent:
        run = keyed.create_flow_run(keyed.create_flow(agent.label, labels=[agent.label]))
        seen = folder / "seen"
        wait_until(seen.exists, lambda: agent.said)
        assert seen.read_text() == f"{KEY} {keyed.tenant_id}"
        agent.wait_for("started: PID")
        wait_until(lambda: keyed.messages(run), lambda: agent.said)

        assert (KEY in command_of(agent.pid)) == (name == "command line")
        assert (_IN_THE_LIST_OF_PROCESSES in agent.said) == (name == "command line")
        told = {**_told(agent), **{f"process {pid}": command_of(pid) for pid in agent.processes()}}
        told |= {"its log at the API": "\n".join(keyed.messages(run))}
        assert len(told) > 5
        assert all(told.values()), "empty: nothing was looked at"
        assert [where for where, text in told.items() if KEY in text] == []


def _told(agent: AgentProcess) -> dict[str, str]:
    """All that an agent says and writes down. What `config` prints is about this very agent: its flags, its files."""
    config = ["config" if word == "start" else word for word in agent.command]
    json = subprocess.run([*config, "--json"], env=agent.environment, capture_output=True, text=True, check=True)
    assert '"********"' in json.stdout, "the key that it masks"
    states = {str(path): path.read_text() for path in agent.state_dir.rglob("*") if _has_text(path)}
    return {"config": json.stdout, "console": agent.console, **states}


def _has_text(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LOCAL_AGENT_API_KEY": "wrong"}, "does not accept the API key"),
        ({}, "asks for an API key, and none is set"),
    ],
    ids=["wrong", "none"],
)
def test_a_wrong_key_ends_it_at_the_start(
    keyed: Api, tmp_path: Path, variables: Mapping[str, str], message: str
) -> None:
    """With 77, which the units never restart: only a person can fix that."""
    with _agent(tmp_path / "agent", keyed.url, Place(variables=variables)) as agent:
        assert agent.wait() == CredentialError.exit_code == 77
        error, hint = agent.said.splitlines()[-2:]
        assert error == f"error: the API at {keyed.url} {message}"
        assert hint.startswith("hint: ")
        assert "wrong" not in agent.said
        assert "Traceback" not in agent.said


def test_a_key_that_is_withdrawn_is_an_outage_until_a_reload_brings_another(keyed: Api, tmp_path: Path) -> None:
    """Its flow runs are still its own: it stays, says so once, and goes on with the new key."""
    folder = tmp_path / "agent"
    with FaultyProxy(keyed.url) as proxy:
        agent = _agent(folder, proxy.url, PLACES["file"])
        with agent:
            agent.wait_for("Registered at")
            (folder / "key").write_text("the-next-key")
            assert agent.ask("reload") == "api_key"
            agent.wait_for(f"the API at {proxy.url} does not accept the API key; trying again")
            (folder / "key").write_text(KEY)
            assert agent.ask("reload") == "api_key"
            agent.wait_for("The API answers again")
            agent.wait_for("Registered at", times=2)
            assert agent.said.count("does not accept") == 1


def test_a_web_page_is_no_word_about_the_key(keyed: Api, tmp_path: Path) -> None:
    """A proxy on the way says 403 with a page of its own: the agent stays and tries again."""
    with FaultyProxy(keyed.url) as proxy:
        rule = proxy.answer_html(status=403)
        with _agent(tmp_path / "agent", proxy.url, PLACES["variable"]) as agent:
            rule.wait_for_hits()
            agent.wait_for("answers HTTP 403 with a web page, not GraphQL; trying again")
            proxy.clear()
            agent.wait_for("Registered at")
