"""`local-agent install` at the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_agent.install.plan import make_plan
from local_agent.install.render import system_files
from support.checkout import CHECKOUT
from support.hostile import hostile_values


def _install(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(CHECKOUT / "src")}
    command = [sys.executable, "-m", "local_agent", "install", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)


def _verify(*arguments: str, **environ: str) -> str:
    """What systemd has to say about a unit: nothing, if it is as it should be."""
    result = subprocess.run(
        ["systemd-analyze", *arguments], env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    return result.stderr + ("" if result.returncode == 0 else f"exit code {result.returncode}")


def test_bare_install_prints_a_supervisord_conf(tmp_path: Path) -> None:
    result = _install(tmp_path, "--label", "prod1", "-k", "hidden-key")
    assert result.returncode == 0
    assert "[program:local-agent]\n" in result.stdout
    assert " start --label=prod1 --api-key-file=" in result.stdout
    assert "install systemd" in result.stderr
    assert "write it into" in result.stderr
    assert "hidden-key" not in result.stdout + result.stderr


def test_output_writes_once_and_again_only_when_forced(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    first = _install(tmp_path, "supervisord", "--output", str(folder), "-k", "hidden-key")
    assert first.stdout.splitlines() == [f"{folder}/supervisord.conf", f"{folder}/local-agent.key"]
    second = _install(tmp_path, "supervisord", "--output", str(folder))
    assert second.returncode == 73
    assert second.stderr.splitlines() == [
        f"error: {folder}/supervisord.conf is there already",
        "hint: --force replaces what is there",
    ]
    assert _install(tmp_path, "supervisord", "--output", str(folder), "--force").returncode == 0


def test_a_user_unit_is_one_that_systemd_accepts(tmp_path: Path) -> None:
    result = _install(tmp_path, "systemd", "--user", "--instance", "prod1", "-k", "abc", "--output", "/")
    assert result.returncode == 0, result.stderr
    unit = tmp_path / ".config/systemd/user/local-agent@prod1.service"
    assert result.stdout.splitlines()[0] == str(unit)
    assert (tmp_path / ".config/local-agent/prod1.key").stat().st_mode & 0o777 == 0o600
    assert _verify("--user", "verify", "--man=no", str(unit), XDG_RUNTIME_DIR=str(tmp_path)) == ""


def test_printed_files_have_their_paths_between_them(tmp_path: Path) -> None:
    result = _install(tmp_path, "systemd", "--instance", "prod1", "-k", "abc", "-e", "A=1")
    assert [line for line in result.stdout.splitlines() if line.startswith("# /")] == [
        "# /etc/local-agent/prod1.toml (mode 0640, group local-agent)",
        "# /etc/systemd/system/local-agent@prod1.service.d/install.conf",
    ]
    assert "systemctl daemon-reload && systemctl enable --now local-agent@prod1" in result.stderr


@pytest.mark.parametrize("part", range(5))
def test_a_drop_in_of_hostile_words_is_one_that_systemd_accepts(tmp_path: Path, part: int) -> None:
    values = hostile_values(500, seed=5)[part * 100 : part * 100 + 100]
    plan = make_plan({"instance": "prod1", "config_dir": f"/etc/{values[-1]}"}, ("/bin/true", *values))
    units = tmp_path / "units"
    (units / "local-agent@prod1.service.d").mkdir(parents=True)
    (units / "local-agent@.service").write_text("[Service]\nExecStart=/bin/false\n")
    drop_in = next(file for file in system_files(plan) if file.path.name == "install.conf")
    (units / "local-agent@prod1.service.d/install.conf").write_text(drop_in.text)
    said = _verify("verify", "--man=no", "local-agent@prod1.service", SYSTEMD_UNIT_PATH=f"{units}:")
    assert said == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user"], "--user goes with systemd"),
        (["-e", "FOO"], 'flag --env: "FOO" has no "="'),
        (["systemd", "--instance", "a b"], "cannot name an instance"),
        (["docker"], "'docker' is not one of 'supervisord', 'systemd'"),
        (["--label", "a\nb"], "line break"),
    ],
)
def test_bad_input_is_one_clear_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = _install(tmp_path, *arguments)
    assert (result.returncode, result.stdout) == (78, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr
