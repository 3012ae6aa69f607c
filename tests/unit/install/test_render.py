"""What `install systemd` makes of the flags of `start`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from local_agent.errors import ConfigError
from local_agent.install.files import File
from local_agent.install.plan import PACKAGED_PROGRAM, make_plan
from local_agent.install.render import supervisord_files, system_files, user_files
from local_agent.settings import Settings, load_settings
from support.hostile import hostile_values

FLAGS: dict[str, object] = {
    "instance": "prod1",
    "api": "https://api.example.com",
    "labels": ("a", 'b "c" \\'),
    "hostname_label": False,
    "env": ("A=x y", "B%=é\n'"),
    "limit": "4",
    "poll_interval": "1min",
    "limits.memory_max": "4G",
    "limits.nice": "none",
    "on_crash": "reschedule(2)",
    "agent_address": "http://[::1]:8080",
}


def _by_name(files: list[File]) -> dict[str, File]:
    return {file.path.name: file for file in files}


def _load(files: list[File], folder: Path, environ: dict[str, str]) -> Settings:
    """What an agent of these files would use."""
    for file in files:
        (folder / file.path.name).write_text(file.text)
    return load_settings(
        flags={"instance": "prod1", "config_dir": str(folder)},
        environ={"HOME": "/nowhere", "LOCAL_AGENT_PYTHON": sys.executable, **environ},
        hostname="h",
    )


def test_the_packaged_unit_needs_no_drop_in() -> None:
    (settings,) = system_files(make_plan({"instance": "prod1"}, PACKAGED_PROGRAM))
    assert settings.path == Path("/etc/local-agent/prod1.toml")
    assert tomllib.loads(settings.text) == {}


def test_the_file_says_what_the_flags_said(tmp_path: Path) -> None:
    files = system_files(make_plan(FLAGS, PACKAGED_PROGRAM))
    by_file = _load(files, tmp_path, {})
    by_flags = load_settings(
        flags={**FLAGS, "config_dir": str(tmp_path / "none")},
        environ={"HOME": "/nowhere", "LOCAL_AGENT_PYTHON": sys.executable},
        hostname="h",
    )
    for attribute in ("api", "labels", "env", "limit", "poll_interval_seconds", "limits", "on_crash", "agent_address"):
        assert getattr(by_file, attribute) == getattr(by_flags, attribute), attribute
    assert by_file.effective_labels == ("a", 'b "c" \\')


def test_hostile_values_come_back_through_the_file(tmp_path: Path) -> None:
    values = hostile_values(500, seed=4)
    flags: dict[str, object] = {
        "labels": tuple(values[:200]),
        "import_paths": tuple(f"/srv/{value}" for value in values[200:350]),
        "env": tuple(f"{value.replace('=', '')}_={value}\n" for value in values[350:]),
    }
    settings = _load(system_files(make_plan({**flags, "instance": "prod1"}, PACKAGED_PROGRAM)), tmp_path, {})
    assert settings.labels == flags["labels"]
    assert settings.import_paths == flags["import_paths"]
    assert list(settings.env.values()) == list(dict(value.split("=", 1) for value in flags["env"]).values())  # type: ignore[attr-defined]  # a tuple


def test_a_key_becomes_a_credential() -> None:
    files = _by_name(system_files(make_plan({"instance": "prod1", "api_key": "hidden-key"}, PACKAGED_PROGRAM)))
    assert set(files) == {"prod1.toml", "prod1.key", "install.conf"}
    key = files["prod1.key"]
    assert (key.text, key.mode, key.is_secret) == ("hidden-key\n", 0o600, True)
    assert f"LoadCredential=api-key:{key.path}\n" in files["install.conf"].text
    assert not any("hidden-key" in file.text for name, file in files.items() if name != "prod1.key")


def test_a_key_file_is_read_by_systemd() -> None:
    plan = make_plan({"instance": "prod1", "api_key_file": "/root/50%-key"}, PACKAGED_PROGRAM)
    files = _by_name(system_files(plan))
    assert "LoadCredential=api-key:/root/50%%-key\n" in files["install.conf"].text
    assert "api_key" not in files["prod1.toml"].text


def test_another_program_replaces_the_packaged_one() -> None:
    files = _by_name(system_files(make_plan({"instance": "prod1"}, ("/opt/my agent/bin/local-agent",))))
    lines = files["install.conf"].text.splitlines()
    assert 'ExecStart="/opt/my agent/bin/local-agent" start --instance %i' in lines
    assert lines[lines.index('ExecStart="/opt/my agent/bin/local-agent" start --instance %i') - 1] == "ExecStart="


def test_variables_of_flow_runs_are_not_for_everybody() -> None:
    files = _by_name(system_files(make_plan(FLAGS, PACKAGED_PROGRAM)))
    assert (files["prod1.toml"].mode, files["prod1.toml"].group) == (0o640, "local-agent")


def test_a_password_in_the_url_is_not_for_everybody(tmp_path: Path) -> None:
    flags = {"instance": "prod1", "api": "https://flows:s3%20cret@api.example.com"}
    files = _by_name(system_files(make_plan(flags, PACKAGED_PROGRAM)))
    assert (files["prod1.toml"].mode, files["prod1.toml"].group) == (0o640, "local-agent")
    (supervisord,) = supervisord_files(make_plan(flags, PACKAGED_PROGRAM), tmp_path)
    assert supervisord.mode == 0o600
    lines = [line for line in supervisord.text.splitlines() if "s3" in line]
    assert lines == ['environment = LOCAL_AGENT_API="https://flows:s3%%20cret@api.example.com"'], "no argument"


def test_a_user_gets_a_unit_of_its_own() -> None:
    files = user_files(make_plan({**FLAGS, "api_key": "hidden-key"}, ("/opt/a",)), Path("/home/x/.config"))
    assert [str(file.path) for file in files] == [
        "/home/x/.config/systemd/user/local-agent@prod1.service",
        "/home/x/.config/local-agent/prod1.toml",
        "/home/x/.config/local-agent/prod1.key",
    ]
    unit = files[0].text
    assert "Environment=LOCAL_AGENT_CONFIG_DIR=/home/x/.config/local-agent\n" in unit
    assert "hidden-key" not in unit


def test_all_wrong_flags_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan({"limit": "x", "env": ("FOO",), "instance": "a b"}, PACKAGED_PROGRAM)
    assert len(caught.value.problems) == 3
