"""The real Prefect 3 and 2.20: a virtual environment for each version that tests run servers and flows with.

`python tests/support/prefect3_venv.py [VERSION...]` prints the interpreters' paths, made now if need be.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from support.cache import SetUpError, loudly, made_once
from support.prefect_venv import environment_key, system_version

NEWEST = "3.9.1"
OLDEST_3 = "3.0.11"
LAST_2 = "2.20.25"
VERSIONS = (NEWEST, OLDEST_3, LAST_2)

# what each version does not say of itself, and breaks without: 3.0's server dies on import, 2.20's engine at its start
_PINS = {OLDEST_3: ("pydantic<2.11", "fastapi<0.116"), LAST_2: ("anyio<4.5",)}
_SYSTEM_PYTHON = Path("/usr/bin/python3")
_NETWORK_TRIES = 3
_HINT = "prefect comes from PyPI: check the network, or point pip at a mirror in /etc/pip.conf"
# prints what a version needs, but for extras and for the pin on certifi: some mirrors are behind its dates
_REQUIREMENTS = """
import re, sys
from importlib.metadata import requires
for line in requires("prefect"):
    if "extra ==" not in line:
        print("certifi" if re.match(r"certifi\\b", line) else line)
"""


def prefect3_python(version: str = NEWEST) -> Path:
    """Return the interpreter of a virtual environment with this version of prefect, made at the first call."""
    key = environment_key(system_version(), version, *_PINS.get(version, ()))
    folder = made_once(f"prefect-{version}-{key}", partial(_make_venv, version))
    return folder / "venv/bin/python"


def _make_venv(version: str, folder: Path) -> None:
    venv, pins = folder / "venv", _PINS.get(version, ())
    loudly(f"making {venv}", [_SYSTEM_PYTHON, "-m", "venv", venv])
    try:
        _pip(f"installing prefect {version} from PyPI, about a minute", venv, f"prefect=={version}", *pins)
    except SetUpError:
        _pip(f"installing prefect {version} without its pins", venv, "--no-deps", f"prefect=={version}")
        _pip("installing what it needs", venv, *_requirements(venv), *pins)


def _requirements(venv: Path) -> list[str]:
    asked = subprocess.run([venv / "bin/python", "-c", _REQUIREMENTS], check=True, stdout=subprocess.PIPE, text=True)
    return asked.stdout.splitlines()


def _pip(doing: str, venv: Path, *arguments: str) -> None:
    pip = [venv / "bin/pip", "install", "-qq", "--disable-pip-version-check"]
    try:
        loudly(doing, [*pip, *arguments], tries=_NETWORK_TRIES)
    except SetUpError as error:
        raise SetUpError(f"{error}\n{_HINT}") from None


if __name__ == "__main__":
    try:
        for wanted in sys.argv[1:] or VERSIONS:
            print(prefect3_python(wanted))
    except SetUpError as error:
        sys.exit(f"error: {error}")
