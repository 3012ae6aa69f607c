"""What `install supervisord` renders, as the real supervisor reads it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from local_agent.cli.options import start_options
from local_agent.errors import ConfigError
from local_agent.install.files import write_files
from local_agent.install.plan import make_plan
from local_agent.install.render import supervisord_files
from local_agent.settings import Settings, load_settings
from support.hostile import hostile_values

SYSTEM_PYTHON = "/usr/bin/python3"
READER = Path(__file__).with_name("read_supervisord_conf.py")


@click.command()
@start_options
@click.pass_context
def start(context: click.Context, flags: dict[str, object]) -> None:
    """Stands for `local-agent start`: keeps its flags."""
    context.obj.update(flags)


def _install(folder: Path, flags: Mapping[str, object], *program: str) -> Path:
    folder.mkdir(exist_ok=True)
    files = supervisord_files(make_plan(flags, program or (sys.executable, "-m", "local_agent")), folder)
    return write_files(files, Path("/"), force=False)[0]


def _read(*confs: Path) -> list[dict[str, Any]]:
    result = subprocess.run([SYSTEM_PYTHON, READER, *confs], stdout=subprocess.PIPE, check=True, text=True)
    programs: list[dict[str, Any]] = json.loads(result.stdout)
    return programs


def _started(argv: list[str], environment: Mapping[str, str]) -> Settings:
    """The settings of the agent that such a process would be."""
    flags: dict[str, object] = {}
    start.main(argv[argv.index("start") + 1 :], standalone_mode=False, obj=flags)
    return _settings(flags, environment)


def _settings(flags: Mapping[str, object], environment: Mapping[str, str]) -> Settings:
    environ = {"HOME": "/nowhere", **environment}
    return load_settings(flags=flags, environ=environ, config_dir=Path("/nowhere"), hostname="h")


def test_supervisor_is_installed() -> None:
    assert shutil.which("supervisord"), "apt-get install supervisor"


def test_hostile_values_come_back_as_they_were(tmp_path: Path) -> None:
    values = hostile_values(500, seed=1)
    flags: dict[str, object] = {
        "labels": tuple(values[:200]),
        "import_paths": tuple(f"/srv/{value}" for value in values[200:350]),
        "env": tuple(f"{value.replace('=', '')}_={value}" for value in values[350:]),
    }
    (program,) = _read(_install(tmp_path, flags))
    labels = [f"--label={value}" for value in values[:200]]
    paths = [f"--import-path=/srv/{value}" for value in values[200:350]]
    assert program["argv"] == [sys.executable, "-m", "local_agent", "start", *labels, *paths]
    assert list(program["environment"]) == ["LOCAL_AGENT_ENV"]
    started, wanted = _started(program["argv"], program["environment"]), _settings(flags, {})
    assert started.labels == wanted.labels
    assert started.import_paths == wanted.import_paths
    assert started.env == wanted.env
    assert len(wanted.env) > 140


def test_hostile_names_and_programs_come_back_as_they_were(tmp_path: Path) -> None:
    names = [value for value in hostile_values(120, seed=2) if value.isprintable() and value == value.strip()]
    confs, programs = [], []
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        programs.append(_program(folder, f"{name} {number}".replace("/", "_")))
        confs.append(_install(folder, {"name": name}, programs[-1]))
    for name, program, read in zip(names, programs, _read(*confs), strict=True):
        assert read["argv"] == [program, "start", f"--name={name}"]


def _program(folder: Path, name: str) -> str:
    folder.mkdir()
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_every_option_of_start_comes_back(tmp_path: Path) -> None:
    flags: dict[str, object] = {
        "api": "https://api.example.com",
        "labels": ("b", "a"),
        "hostname_label": False,
        "cloud_logs": False,
        "show_flow_logs": True,
        "agent_address": "http://:8080",
        "log_level": "debug",
        "max_polls": "3",
        "limits.memory_max": "4G",
        "on_crash": "reschedule(2)",
        "instance": "prod:1",
        "agent_config_id": "abc",
        "api_key_file": "/etc/key",
    }
    (program,) = _read(_install(tmp_path, flags))
    assert program["name"] == "local-agent-prod_1"
    given: dict[str, object] = {}
    start.main(program["argv"][4:], standalone_mode=False, obj=given)
    assert given == flags


def test_a_key_is_referenced_and_not_printed(tmp_path: Path) -> None:
    conf = _install(tmp_path, {"api_key": "hidden-key"})
    key_path = tmp_path / "local-agent.key"
    assert key_path.read_text() == "hidden-key\n"
    assert key_path.stat().st_mode & 0o777 == 0o600
    assert "hidden-key" not in conf.read_text()
    (program,) = _read(conf)
    key = _started(program["argv"], program["environment"]).api_key
    assert key is not None
    assert key.reveal() == "hidden-key"


def test_variables_of_flow_runs_are_for_the_owners_eyes(tmp_path: Path) -> None:
    assert _install(tmp_path / "a", {"env": ("A=1",)}).stat().st_mode & 0o777 == 0o600
    assert _install(tmp_path / "b", {}).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("flags", [{"labels": ("a\nb",)}, {"import_paths": ("a\nb",)}, {"name": "a\nb"}])
def test_what_the_file_cannot_carry_is_refused(tmp_path: Path, flags: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="line break"):
        _install(tmp_path, flags)


def test_a_line_break_in_a_variable_is_carried(tmp_path: Path) -> None:
    (program,) = _read(_install(tmp_path, {"env": ("A=one\ntwo\r",)}))
    assert _started(program["argv"], program["environment"]).env == {"A": "one\ntwo\r"}
