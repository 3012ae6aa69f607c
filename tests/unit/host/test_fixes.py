"""What fixes is safe to type: nothing of the system's is written to, and nobody loses what the agent needs."""

from __future__ import annotations

import grp
import os
import stat
import subprocess
from pathlib import Path

import pytest

from local_agent.host.doctor import interpreter
from local_agent.settings import access
from support import samples

_SYSTEMS = ("/usr/bin/python3", "/usr/local/bin/python3", "/bin/python3", "/srv/python", "/python", "/root/python")
_NEVER = (
    " -m venv /usr",
    " -m venv / ",
    "root: / ",
    "root: /usr",
    "root: /srv ",
    "root: /root",
    "/usr/bin/python3 -m pip",
)


def _answers(path: Path, text: str, code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {text}\nexit {code}\n")
    path.chmod(0o755)
    return path


def _venv(folder: Path) -> Path:
    python = _answers(folder / "bin/python", "none", 1)
    (folder / "pyvenv.cfg").touch()
    return python


@pytest.mark.parametrize("python", _SYSTEMS)
@pytest.mark.parametrize("typed_by_root", [True, False])
def test_an_interpreter_of_the_systems_gets_an_environment_elsewhere(python: str, typed_by_root: bool) -> None:
    fix = interpreter.check_interpreter(Path(python), samples.NEEDS, "prod1", typed_by_root=typed_by_root).fix
    assert not any(never in fix for never in _NEVER), fix
    command, _, then = fix.partition(" # then set python = ")
    venv = then.strip('"').removesuffix("/bin/python")
    assert venv.startswith("/opt/flows/" if typed_by_root else str(Path.home() / ".local/share"))
    assert f"python3 -m venv {venv} && {venv}/bin/python -m pip install 'prefect==1.4.1'" in command


def test_a_venv_left_behind_in_usr_does_not_make_it_anybodys() -> None:
    for folder in (Path("/"), Path("/usr"), Path("/usr/local"), Path("/opt"), Path("/home"), Path("/root")):
        assert folder in interpreter.SYSTEM


def test_an_environment_gets_prefect_by_its_owner(tmp_path: Path) -> None:
    python = _venv(tmp_path / "venv")
    install = f"{python} -m pip install 'prefect==1.4.1' 'marshmallow<4'"
    if os.getuid() == 0:
        assert interpreter.check_interpreter(python, samples.NEEDS, "prod1").fix == install
        os.chown(tmp_path / "venv", 65534, -1)
        assert interpreter.check_interpreter(python, samples.NEEDS, "prod1").fix == f"runuser -u nobody -- {install}"
    assert interpreter.check_interpreter(python, samples.NEEDS, "prod1", typed_by_root=False).fix == install


def test_an_environment_is_closed_as_a_whole_and_a_lone_interpreter_alone(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    finding = interpreter.check_environment(_venv(venv), samples.NEEDS, "prod1")
    assert finding.fix == f"chown -R root: {venv} && chmod -R go-w,go+rX {venv}"
    lone = _answers(tmp_path / "in its home/bin/python", "1.4.1")
    fix = interpreter.check_environment(lone, samples.NEEDS, "prod1").fix
    assert str(tmp_path) not in fix, "the folder is somebody's for other ends"
    assert "python3 -m venv /opt/flows/" in fix


def test_a_secret_is_closed_to_others_and_not_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "it's.toml"
    path.touch()
    path.chmod(0o644)
    subprocess.run(["sh", "-c", access.closed_to_others(path, path.stat())], check=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_who_reads_it_as_one_of_the_others_gets_it_by_a_group() -> None:
    """Root's agent.toml, read by the user of an agent: taking rights away alone would take them from the agent."""
    of_another = os.stat_result((0o100644, 0, 0, 1, os.getuid() + 1, 2**31, 0, 0, 0, 0))
    group = grp.getgrgid(os.getegid()).gr_name
    assert access.closed_to_others(Path("/x y"), of_another) == f"chgrp {group} '/x y' && chmod o-r,g+r '/x y'"
