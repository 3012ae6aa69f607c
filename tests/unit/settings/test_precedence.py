"""Who is asked first, and what follows from what."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from local_agent.backends import KINDS
from local_agent.settings import CrashAction, CrashPolicy, SourceKind
from local_agent.settings.findings import Findings
from local_agent.settings.kinds import Kind
from local_agent.settings.load import warn_of_strangers
from local_agent.settings.model import BY_KEY, OPTIONS
from unit.settings.conftest import Host


def test_nothing_said_is_an_agent_of_the_local_server(host: Host) -> None:
    host.environ.clear()
    settings = host.load()
    assert (settings.api, settings.backend, settings.name) == ("http://localhost:4200", "server", "agent")
    assert settings.effective_labels == ("host1",)
    assert settings.python == Path(sys.executable)
    assert settings.state_dir == host.home / ".local/state/local-agent/default"
    assert settings.on_crash == CrashPolicy(CrashAction.FAIL)
    assert settings.api_key is None
    assert {source.kind for source in settings.sources.values()} == {SourceKind.DEFAULT}


# the strongest first; each test takes one more away
PLACES = ("flag", "variable", "prefect variable", "instance file", "agent file", "prefect file", "default")


@pytest.mark.parametrize("weakest", range(len(PLACES)), ids=PLACES)
def test_the_strongest_place_wins(host: Host, weakest: int) -> None:
    flags: dict[str, object] = {"instance": "prod1"}
    said = PLACES[weakest:]
    if "flag" in said:
        flags["name"] = "by flag"
    if "variable" in said:
        host.environ["LOCAL_AGENT_NAME"] = "by variable"
    if "prefect variable" in said:
        host.environ["PREFECT__CLOUD__AGENT__NAME"] = "by prefect variable"
    if "instance file" in said:
        host.write("prod1.toml", 'name = "by instance file"')
    if "agent file" in said:
        host.write("agent.toml", 'name = "by agent file"')
    if "prefect file" in said:
        host.write("~/.prefect/config.toml", '[cloud.agent]\nname = "by prefect file"')
    assert host.load(flags).name == ("prod1" if said[0] == "default" else f"by {said[0]}")


def test_the_source_says_where(host: Host) -> None:
    agent = host.write("agent.toml", "limit = 3\n[limits]\nnice = 4\n")
    sources = host.load({"labels": ("a",)}, LOCAL_AGENT_POLL_INTERVAL="5").sources
    assert str(sources["labels"]) == "flag --label"
    assert str(sources["poll_interval"]) == "variable LOCAL_AGENT_POLL_INTERVAL"
    assert str(sources["limit"]) == f"{agent}: limit"
    assert str(sources["limits.nice"]) == f"{agent}: limits.nice"
    assert str(sources["max_polls"]) == "default"
    assert str(host.load({"cloud_logs": False}).sources["cloud_logs"]) == "flag --no-cloud-logs"


def test_what_only_another_kind_of_api_has_is_said_with_its_place(host: Host) -> None:
    agent = host.write("agent.toml", 'labels = ["a"]\nlimit = 3\n')
    settings = host.load({"heartbeat_mode": "off"}, LOCAL_AGENT_REJECT_UNSUPPORTED="yes")
    assert settings.warnings == ()
    findings = Findings()
    warn_of_strangers("another", settings.sources, findings)
    assert [words.partition(": it means nothing")[0] for words in findings.warnings] == [
        *(f"{agent}: labels", "variable LOCAL_AGENT_REJECT_UNSUPPORTED", "flag --heartbeat-mode"),
    ]


def test_every_kind_of_api_can_be_chosen() -> None:
    protocol = BY_KEY["protocol"].kind
    assert {name for name in [*KINDS, "another"] if _is_accepted(protocol, name)} == {*KINDS}
    assert {option.only for option in OPTIONS} - {""} <= {*KINDS}


def _is_accepted(kind: Kind[object], name: str) -> bool:
    try:
        return kind.parse(name) == name
    except ValueError:
        return False


def test_an_empty_variable_says_nothing(host: Host) -> None:
    assert host.load(LOCAL_AGENT_LIMIT="", LOCAL_AGENT_NAME=" ", PREFECT__CLOUD__AGENT__NAME="").name == "agent"


def test_limits_are_merged_key_by_key_and_lists_are_not(host: Host) -> None:
    host.write("agent.toml", 'labels = ["x", "y"]\n[limits]\nnice = 4\nmemory_max = "2G"\n[env]\nA = "1"\n')
    host.write("prod1.toml", 'labels = ["z"]\n[limits]\nnice = 5\n[env]\nB = "2"\n')
    settings = host.load({"instance": "prod1"})
    assert (settings.limits.nice, settings.limits.memory_max_bytes) == (5, 2 << 30)
    assert settings.labels == ("z",)
    assert settings.env == {"B": "2"}


def test_labels_are_sorted_and_the_hostname_comes_last(host: Host) -> None:
    settings = host.load({"labels": ("z", "a", "z")})
    assert settings.effective_labels == ("a", "z", "host1")
    assert host.load({"labels": ("host1", "z")}).effective_labels == ("host1", "z")
    assert host.load({"labels": ("z",), "hostname_label": False}).effective_labels == ("z",)
    assert host.load({"hostname_label": False}).effective_labels == ()


def test_an_instance_without_labels_has_its_name_as_its_only_label(host: Host) -> None:
    settings = host.load({"instance": "prod1"})
    assert (settings.name, settings.effective_labels) == ("prod1", ("prod1",))
    assert host.load({"instance": "prod1", "hostname_label": True}).effective_labels == ("prod1", "host1")
    assert host.load({"instance": "prod1", "labels": ("a",)}).effective_labels == ("a", "host1")


def test_an_instance_with_an_empty_list_of_labels_has_none(host: Host) -> None:
    host.write("prod1.toml", "labels = []\nhostname_label = false\n")
    assert host.load(LOCAL_AGENT_INSTANCE="prod1").effective_labels == ()


def test_state_lies_where_systemd_says(host: Host) -> None:
    assert host.load(STATE_DIRECTORY="/var/lib/local-agent/prod1").state_dir == Path("/var/lib/local-agent/prod1")
    assert host.load({"instance": "a:1"}, STATE_DIRECTORY="/var/lib/a:1").state_dir == Path("/var/lib/a:1")
    assert host.load({"instance": "a"}, STATE_DIRECTORY="/var/lib/b:/var/lib/c").state_dir == Path("/var/lib/b")
    assert host.load(XDG_STATE_HOME="/x", LOCAL_AGENT_INSTANCE="i").state_dir == Path("/x/local-agent/i")
    assert host.load(STATE_DIRECTORY="/s", LOCAL_AGENT_STATE_DIR="~/mine").state_dir == host.home / "mine"


def test_the_configuration_folder_can_be_moved(host: Host, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/agent.toml").write_text("limit = 7")
    settings = host.load(LOCAL_AGENT_CONFIG_DIR=str(tmp_path / "other"))
    assert (settings.limit, settings.config_dir) == (7, tmp_path / "other")
    assert settings.files == (tmp_path / "other/agent.toml",)


def test_home_is_expanded_in_paths(host: Host) -> None:
    settings = host.load({"import_paths": ("~/flows", "/srv/~x")})
    assert settings.import_paths == (f"{host.home}/flows", "/srv/~x")


def test_a_bare_name_of_an_interpreter_is_looked_up_on_the_path(host: Host) -> None:
    assert host.load({"python": "python3"}).python == Path("/usr/bin/python3")


def test_variables_hold_lists_in_several_forms(host: Host) -> None:
    assert host.load(LOCAL_AGENT_LABELS="a, b").labels == ("a", "b")
    assert host.load(LOCAL_AGENT_LABELS='["a", "b,c"]').labels == ("a", "b,c")


def test_quotes_around_a_variable_do_not_count(host: Host) -> None:
    """`docker run --env-file` leaves them there."""
    settings = host.load(LOCAL_AGENT_API='"http://a:1"', LOCAL_AGENT_NAME="'my agent'", LOCAL_AGENT_ON_CRASH='"leave"')
    assert (settings.api, settings.name, str(settings.on_crash)) == ("http://a:1", "my agent", "leave")
    assert host.load(LOCAL_AGENT_IMPORT_PATHS="/a:/b c").import_paths == ("/a", "/b c")
    assert host.load(LOCAL_AGENT_ENV="""A=1 B='x y'""").env == {"A": "1", "B": "x y"}
    assert host.load(LOCAL_AGENT_ENV='{"A": 1, "B": true}').env == {"A": "1", "B": "true"}


def test_none_takes_back_what_a_weaker_place_said(host: Host) -> None:
    host.write("agent.toml", 'limit = 3\n[limits]\nmemory_max = "2G"\n')
    settings = host.load({"limit": "none"}, LOCAL_AGENT_MEMORY_MAX="infinity")
    assert (settings.limit, settings.limits.memory_max_bytes) == (None, None)


def test_variables_of_a_container_about_a_service_of_our_name_are_no_settings(host: Host) -> None:
    host.load(
        LOCAL_AGENT_SERVICE_HOST="10.0.0.1", LOCAL_AGENT_PORT_80_TCP_ADDR="10.0.0.1", LOCAL_AGENT_PORT="tcp://x:80"
    )
