"""`local-agent config` answers a broken file with the file, the key, what is wrong, and what to do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from local_agent.cli.main import cli, report_error
from local_agent.errors import ConfigError
from support.checkout import CHECKOUT


@dataclass(frozen=True)
class Broken:
    """A file's text, and what must be said about it: the key (or line), what is wrong, what to do."""

    title: str
    text: str | bytes
    key: str
    what: str
    do: str
    name: str = "prod1.toml"


BROKEN = (
    Broken("too many digits", "limit = " + "9" * 5000, "prod1.toml", "is not TOML", ""),
    Broken("too deep", "labels = " + "[" * 5000, "prod1.toml", "is not TOML", ""),
    Broken("unknown key", 'lables = ["a"]', "lables", "no such setting", "did you mean labels?"),
    Broken("unlike any key", "xyzzy = 1", "xyzzy", "no such setting", "`local-agent config` lists"),
    Broken("a flag's name", "poll-interval = 3", "poll-interval", "no such setting", "did you mean poll_interval?"),
    Broken("Prefect's agent's name", 'import_path = "/x"', "import_path", "no such setting", "import_paths"),
    Broken("unknown key in a table", '[limits]\nmemory = "4G"', "limits.memory", "no such setting", "memory_max?"),
    Broken("unknown table", "[limit_s]\nnice = 1", "limit_s", "no such setting", "did you mean"),
    Broken("a key outside its table", 'memory_max = "4G"', "memory_max", "belongs in a table", "[limits]"),
    Broken("a key below a table", "[limits]\nnice = 1\nlimit = 3", "limits.limit", "not belong in [limits]", "above"),
    Broken("a table as a value", "limits = 4", "limits", "not a table", "write [limits]"),
    Broken("text for a number", 'limit = "four"', "limit", "is a text ('four')", "write limit = 4"),
    Broken("number for a text", "name = 5", "name", "is a number (5)", 'write name = "agent"'),
    Broken("text for a list", 'labels = "prod1"', "labels", "is a text", 'write labels = ["prod1"]'),
    Broken("text for a truth", 'cloud_logs = "no"', "cloud_logs", "is a text", "write cloud_logs = true"),
    Broken("a date", "name = 2026-01-01", "name", "is a date or time", "write name ="),
    Broken("out of range", "[limits]\nnice = 40", "limits.nice", "40 is more than 19", "from -20 to 19"),
    Broken("not one of the words", 'launcher = "docker"', "launcher", '"docker" is not one of', "auto, scope, process"),
    Broken("no URL", 'api = "localhost:4200"', "api", "not an http or https URL", "http://localhost:4200"),
    Broken("no time span", 'cancel_grace = "soon"', "cancel_grace", "not a time span", "6h 30min"),
    Broken("a share of memory", '[limits]\nmemory_max = "50%"', "limits.memory_max", "share of the machine", "4G"),
    Broken("no UUID", 'tenant_id = "acme"', "tenant_id", '"acme" is not a UUID', "write a UUID"),
    Broken("no interpreter", 'python = "/nowhere/python"', "python", "there is no /nowhere/python", "name the"),
    Broken("above the ceiling", "[limits]\nnice = 1\n[ceilings]\nnice = 5", "limits.nice", "above the ceil", "lower"),
    Broken("not for a file", 'instance = "prod2"', "instance", "cannot stand in a file", "--instance"),
    Broken("missing quotes", "api = http://x", "line 1", "not TOML", "quotes"),
    Broken("twice", "limit = 1\nlimit = 2\n", "line 2", "not TOML", "stands in it twice"),
    Broken("not UTF-8", b'name = "caf\xe9"', "byte 11", "not UTF-8", "as UTF-8"),
    Broken("in the file for all", "limit = 0", "limit", "0 is less than 1", "1 or more", name="agent.toml"),
    Broken("a key file that is not there", 'api_key_file = "/nowhere/key"', "api_key_file", "cannot be read", "write"),
    Broken("Prefect's file", "[cloud\n", "line 1", "not TOML", "brackets", name="home/.prefect/config.toml"),
    Broken("Prefect's key", '[cloud]\nrequest_timeout = "x"', "cloud.request_timeout", "not a time", "seconds",
           name="home/.prefect/config.toml"),
)  # fmt: skip


def _arguments(folder: Path) -> list[str]:
    return ["config", "--instance", "prod1", "--config-dir", str(folder)]


def _environ(folder: Path) -> dict[str, str]:
    return {"HOME": str(folder / "home"), "PATH": "/usr/bin:/bin"}


def _write(folder: Path, broken: Broken) -> Path:
    path = folder / broken.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(broken.text if isinstance(broken.text, bytes) else broken.text.encode())
    return path


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.title)
def test_a_broken_file_is_answered(tmp_path: Path, broken: Broken, capfd: pytest.CaptureFixture[str]) -> None:
    path = _write(tmp_path, broken)
    result = CliRunner().invoke(cli, _arguments(tmp_path), env=_environ(tmp_path))
    assert isinstance(result.exception, ConfigError), result.output
    report_error(result.exception)
    said = capfd.readouterr().err
    lines = said.splitlines()
    assert lines[0].startswith(f"error: {path}: ")
    assert broken.key in lines[0]
    assert broken.what in lines[0]
    assert lines[1].startswith("hint: ")
    assert broken.do in lines[1]
    assert len(lines) == 2


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local_agent", *_arguments(folder), *arguments],
        env={**_environ(folder), "PYTHONPATH": str(CHECKOUT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "prod1.toml").write_text('lables = ["a"]\nlimit = "four"\n')
    (tmp_path / "agent.toml").write_text("[limits]\nnice = 40\n")
    result = _run(tmp_path, "-e", "FOO", "--api", "nonsense")
    assert result.returncode == 78
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0] == "error: 5 settings are wrong"
    assert len(lines) == 7
    for name in (f"{tmp_path}/prod1.toml: lables", f"{tmp_path}/prod1.toml: limit", "limits.nice", "--env", "--api"):
        assert any(name in line for line in lines[1:6]), name
    assert "Traceback" not in result.stderr


def test_a_broken_file_ends_with_exit_code_78(tmp_path: Path) -> None:
    (tmp_path / "prod1.toml").write_text("limit = ")
    result = _run(tmp_path)
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr.startswith(f"error: {tmp_path}/prod1.toml: it is not TOML")
