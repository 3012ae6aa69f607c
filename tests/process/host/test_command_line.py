"""What the command line says where it is misused, and where what it writes goes nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.checkout import CHECKOUT

_SECONDS = 60


def _typed(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Let a shell run `local-agent LINE`, in an environment with nothing of its own."""
    environ = {**os.environ, "PYTHONPATH": str(CHECKOUT / "src"), "XDG_STATE_HOME": str(folder), "HOME": str(folder)}
    command = ["sh", "-c", f"{sys.executable} -m local_agent {line}"]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environ, timeout=_SECONDS, check=False
    )


@pytest.mark.parametrize(
    ("line", "code", "error", "hint"),
    [
        ("nonsense", 78, "there is no command 'nonsense'", "local-agent --help lists the commands"),
        ("statsu", 78, "there is no command 'statsu'", "did you mean status?"),
        ("freeze", 78, "Missing argument 'RUN...'", "local-agent freeze --help tells what it takes"),
        ("ps --nonsense", 78, "No such option: --nonsense", "local-agent ps --help tells what it takes"),
        ("logs", 78, "name one flow run, or give --all: local-agent logs RUN", "local-agent logs --help"),
        ("cancel black-swan", 66, "no flow run 'black-swan' is on this host now", "local-agent ps -a lists"),
        ("ps --instance nope", 66, "no instance 'nope' is on this host", "systemctl enable --now local-agent@nope"),
        ("set x memory=lots", 78, "these are no limits:", "as in: local-agent set RUN memory=8G"),
        ("poke", 69, "no agent answers at", "is it running?"),
        ("ps >/dev/full", 74, "cannot write the output: No space left on device", "df -h"),
        ("--help >/dev/full", 74, "cannot write the output: No space left on device", "df -h"),
    ],
)
def test_what_went_wrong_and_what_to_do(line: str, code: int, error: str, hint: str, tmp_path: Path) -> None:
    done = _typed(line, tmp_path)
    first, *_, last = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert first.startswith(f"error: {error}")
    assert last.startswith(f"hint: {hint}")
    assert done.stdout == ""


@pytest.mark.parametrize("line", ["ps >&-", "ps | true", "ps --json >/dev/null 2>&-"])
def test_nobody_who_reads_is_no_fault(line: str, tmp_path: Path) -> None:
    done = _typed(line, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_tables_are_coloured_for_a_pipe(tmp_path: Path) -> None:
    for line in ("ps", "status", "top --delay 0.2"):
        assert "\x1b" not in _typed(line, tmp_path).stdout


def test_what_an_operator_waits_for_imports_nothing_heavy() -> None:
    """Half of what a command takes until its first output is imports."""
    heavy = (
        "asyncio",
        "requests",
        "urllib3",
        "http.client",
        "email",
        "jinja2",
        "graphql",
        "prometheus_client",
        "tomllib",
    )
    script = f"""
import sys
from local_agent.cli import main, ps, top, logs, status, cancel, freeze
print([name for name in {heavy} if name in sys.modules])
"""
    environ = {**os.environ, "PYTHONPATH": str(CHECKOUT / "src")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environ, check=True)
    assert done.stdout.strip() == "[]"
