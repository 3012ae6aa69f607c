#!/usr/bin/python3
"""Makes .venv: Debian's Python with Debian's packages, plus the tools that pyproject.toml's extras name, from PyPI.

Quick when it is done already. Run it with the system's interpreter: the agent runs on that, too.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
VENV = CHECKOUT / ".venv"

_TRIES = 3
_COMMAND = """\
#!{python}
from local_agent.cli.main import main

main()
"""


def main(extras: list[str]) -> None:
    """Given the names of extras, make sure that .venv has what they ask for."""
    wanted = _requirements(extras)
    stamp = VENV / f"complete-{_key(wanted)}"
    if stamp.exists():
        return
    if not _is_ours():
        print(f"==> making {VENV}", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", VENV], check=True)
    _install(wanted)
    _link_source()
    stamp.touch()


def _requirements(extras: list[str]) -> list[str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return [requirement for extra in extras for requirement in project["optional-dependencies"][extra]]


def _key(wanted: list[str]) -> str:
    return hashlib.sha256("\n".join([sys.version, str(VENV), *wanted]).encode()).hexdigest()[:12]


def _is_ours() -> bool:
    """Whether .venv is there, works, and is of this Python at this place: checkouts get copied and moved."""
    code = "import sys, pip; print(sys.version, sys.prefix)"
    python = VENV / "bin/python"
    if not python.exists():
        return False
    result = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return result.stdout.strip() == f"{sys.version} {VENV}"


def _install(wanted: list[str]) -> None:
    print(f"==> installing from PyPI into .venv: {' '.join(wanted)}", flush=True)
    pip = [str(VENV / "bin/python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *wanted]
    for left in reversed(range(_TRIES)):
        if subprocess.run(pip, stdin=subprocess.DEVNULL, check=False).returncode == 0:
            return
        print(f"pip failed, {left} more tries", file=sys.stderr, flush=True)
        time.sleep(5 if left else 0)
    sys.exit("error: PyPI could not be reached, or has not what pyproject.toml asks for: see pip's words above")


def _link_source() -> None:
    """Let this environment's Python import src/, and give it the command."""
    site = VENV / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    (site / "local-agent.pth").write_text(f"{CHECKOUT / 'src'}\n")
    command = VENV / "bin/local-agent"
    command.write_text(_COMMAND.format(python=VENV / "bin/python"))
    command.chmod(0o755)


if __name__ == "__main__":
    main(sys.argv[1:])
