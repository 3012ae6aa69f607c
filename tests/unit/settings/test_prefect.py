"""Prefect's own files and variables, read as prefect 1.4.1 reads them, without its mistakes."""

from __future__ import annotations

import pytest

from local_agent.settings import SourceKind
from local_agent.settings.prefect import api_slug
from unit.settings.conftest import Host

CLOUD = "https://api.prefect.io"
LOCAL = "http://localhost:4200"


@pytest.mark.parametrize(
    ("environ", "api", "backend"),
    [
        ({"PREFECT__BACKEND": "cloud"}, CLOUD, "cloud"),
        ({"PREFECT__BACKEND": "server"}, LOCAL, "server"),
        ({"PREFECT__SERVER__ENDPOINT": "http://s:1"}, "http://s:1", "server"),
        ({"PREFECT__SERVER__HOST": "http://s"}, "http://s:4200", "server"),
        ({"PREFECT__CLOUD__ENDPOINT": "https://c"}, "https://c", "cloud"),
        ({"PREFECT__BACKEND": "server", "PREFECT__CLOUD__ENDPOINT": "https://c"}, LOCAL, "server"),
        ({"PREFECT__CLOUD__API": "http://x:1"}, "http://x:1", "server"),
        ({"PREFECT__CLOUD__API": CLOUD}, CLOUD, "cloud"),
        ({"PREFECT__CLOUD__API": "$WHERE", "WHERE": "http://w:1"}, "http://w:1", "server"),
        ({"PREFECT__CLOUD__API": "${server.ui.url}", "PREFECT__SERVER__UI__URL": "http://u:1"}, "http://u:1", "server"),
        ({"LOCAL_AGENT_BACKEND": "cloud"}, CLOUD, "cloud"),
        ({"LOCAL_AGENT_BACKEND": "cloud", "PREFECT__BACKEND": "server"}, CLOUD, "cloud"),
        ({"LOCAL_AGENT_API": "http://a:1", "PREFECT__BACKEND": "cloud"}, "http://a:1", "cloud"),
    ],
)
def test_the_api_and_the_backend(host: Host, environ: dict[str, str], api: str, backend: str) -> None:
    settings = host.load(**environ)
    assert (settings.api, settings.backend) == (api, backend)


def test_backend_toml_beats_config_toml(host: Host) -> None:
    host.write("~/.prefect/config.toml", 'backend = "server"\n[cloud]\nendpoint = "https://mine"\n')
    assert host.load().backend == "server"
    backend = host.write("~/.prefect/backend.toml", 'backend = "cloud"\n')
    settings = host.load()
    assert (settings.backend, settings.api) == ("cloud", "https://mine")
    assert settings.sources["backend"].path == backend
    assert host.load(PREFECT__BACKEND="server").api == LOCAL


def test_the_files_can_lie_elsewhere(host: Host) -> None:
    host.write("~/a/config.toml", '[cloud.agent]\nname = "n"\n')
    host.write("~/a/backend.toml", 'backend = "cloud"\n')
    settings = host.load(
        PREFECT__USER_CONFIG_PATH="~/a/config.toml", PREFECT__BACKEND_CONFIG_PATH="$HOME/a/backend.toml"
    )
    assert (settings.name, settings.backend) == ("n", "cloud")
    assert len(settings.files) == 2


def test_a_file_that_is_named_and_not_there_is_said(host: Host) -> None:
    (warning,) = host.load(PREFECT__USER_CONFIG_PATH="~/nowhere.toml").warnings
    assert "PREFECT__USER_CONFIG_PATH" in warning


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("foo", ("foo",)),
        ('["a", "b"]', ("a", "b")),
        ("['b', 'a']", ("b", "a")),
        ("8", ("8",)),
        ("a,b", ("a", "b")),
        ('"a","b"', ("a", "b")),
        ("[dev,staging]", ("dev", "staging")),
        ("[ dev , 'stag ing' ]", ("dev", "stag ing")),
        ("(dev, staging)", ("dev", "staging")),
    ],
)
def test_labels_in_a_variable(host: Host, text: str, labels: tuple[str, ...]) -> None:
    assert host.load(PREFECT__CLOUD__AGENT__LABELS=text).labels == labels


@pytest.mark.parametrize("labels", ['"[]"', "[]", '""'])
def test_empty_labels_in_prefects_file_are_none(host: Host, labels: str) -> None:
    """A copy of the file that Prefect ships configures nothing."""
    host.write("~/.prefect/config.toml", f"[cloud.agent]\nlabels = {labels}\nagent_address = ''\n")
    assert host.load({"instance": "prod1"}).effective_labels == ("prod1",)


def test_the_other_keys(host: Host) -> None:
    host.write(
        "~/.prefect/config.toml",
        """
        [cloud]
        tenant_id = "11111111-1111-4111-8111-111111111111"
        request_timeout = 40
        send_flow_run_logs = false
        heartbeat_mode = "off"
        [cloud.agent]
        level = "DEBUG"
        agent_address = "http://localhost:8080"
        labels = ["$LABEL", "b"]
        [cloud.agent.env_vars]
        Key = "${home_dir}"
        number = 1
        [logging]
        level = "warning"
        """,
    )
    settings = host.load()
    assert settings.tenant_id == "11111111-1111-4111-8111-111111111111"
    assert (settings.request_timeout_seconds, settings.cloud_logs, settings.heartbeat_mode) == (40, False, "off")
    assert (settings.log_level, settings.flow_log_level) == ("DEBUG", "WARNING")
    assert str(settings.agent_address) == "http://localhost:8080"
    assert settings.env == {"Key": f"{host.home}/.prefect", "number": "1"}
    assert settings.sources["env"].kind is SourceKind.FILE


def test_variables_for_flow_runs(host: Host) -> None:
    host.write("~/.prefect/config.toml", '[cloud.agent.env_vars]\nA = "file"\n')
    assert host.load(PREFECT__CLOUD__AGENT__ENV_VARS='{"B": "1"}').env == {"B": "1"}
    assert host.load(PREFECT__CLOUD__AGENT__ENV_VARS__FOO="2").env == {"A": "file", "foo": "2"}
    assert host.load({"env": ("C=3",)}).env == {"C": "3"}


def test_a_key_of_digits_stays_as_it_is(host: Host) -> None:
    key = host.load(PREFECT__CLOUD__API_KEY="1e5").api_key
    assert key is not None
    assert key.reveal() == "1e5"


@pytest.mark.parametrize(
    ("api", "slug"),
    [
        ("https://api.prefect.io", "api.prefect.io"),
        ("http://127.0.0.1:14300", "127.0.0.1-14300"),
        ("http://LOCALHOST:4200/x", "localhost-4200"),
    ],
)
def test_the_section_of_auth_toml(api: str, slug: str) -> None:
    assert api_slug(api) == slug


@pytest.mark.parametrize("name", ["config.toml", "backend.toml", "auth.toml"])
def test_a_broken_file_is_named(host: Host, name: str) -> None:
    path = host.write(f"~/.prefect/{name}", "backend = server\n")
    (problem,) = host.problems()
    assert str(path) in problem
    assert "line 1" in problem


def test_references_in_circles_end(host: Host) -> None:
    (problem,) = host.problems(PREFECT__CLOUD__API="${cloud.api}")
    assert "PREFECT__CLOUD__API" in problem


@pytest.mark.parametrize("text", ["server", '"server"', "'server'", " server "])
def test_the_backend_may_be_quoted(host: Host, text: str) -> None:
    """A .env file of a container keeps quotes, and Prefect takes the value as a literal."""
    settings = host.load(PREFECT__BACKEND=text, PREFECT__CLOUD__ENDPOINT="https://api.prefect.io")
    assert settings.backend == "server"
    assert "PREFECT__BACKEND" in str(settings.sources["backend"])
