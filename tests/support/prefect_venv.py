"""The real prefect 1.4.1: a virtual environment here, and wheels for the Debians that tests boot.

`python tests/support/prefect_venv.py` prints the interpreter's path, made now if need be.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from functools import partial
from pathlib import Path

from support.cache import SetUpError, loudly, made_once

# prefect 1.4.1 names only lower bounds, and marshmallow 4 took away what it uses
REQUIREMENTS = ("prefect==1.4.1", "marshmallow<4")
# dask asks for these before Python 3.12, and `pip download` goes by the Python that it runs on
_FOR_OLDER_PYTHON = ("importlib_metadata>=4.13.0",)
# what only the embedded API needs; Debian 12 has a graphql-core with another API
SERVER_REQUIREMENTS = ("aiohttp>=3.8,<4", "graphql-core>=3.2,<4")
# what builds this checkout's own wheel
_BUILD_REQUIREMENTS = ("setuptools>=66",)
_WHEELS = (*REQUIREMENTS, *SERVER_REQUIREMENTS, *_FOR_OLDER_PYTHON, *_BUILD_REQUIREMENTS)

_SYSTEM_PYTHON = Path("/usr/bin/python3")
_NETWORK_TRIES = 3
_PLATFORMS = ("--platform=manylinux2014_x86_64", "--platform=manylinux_2_28_x86_64")
_HINT = "prefect 1.4.1 comes from PyPI: check the network, or point pip at a mirror in /etc/pip.conf"


def prefect_python() -> Path:
    """Return the interpreter of a virtual environment with prefect 1.4.1, made at the first call."""
    folder = made_once(f"prefect-{environment_key(system_version(), *REQUIREMENTS)}", _make_venv)
    return folder / "venv/bin/python"


def prefect_wheels(python: str = "3.13") -> Path:
    """Given a Python version, return a folder of wheels for it: prefect and the embedded API's needs."""
    return made_once(f"wheels-{environment_key(python, *_WHEELS)}", partial(_download, python)) / "wheels"


def environment_key(python: str, *wanted: str) -> str:
    """Given a Python version and what is installed, return what an environment is known by in the cache."""
    return f"{python}-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"


def system_version() -> str:
    """Return the version of this machine's own Python: 3.11."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([_SYSTEM_PYTHON, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _make_venv(folder: Path) -> None:
    venv = folder / "venv"
    loudly(f"making {venv}", [_SYSTEM_PYTHON, "-m", "venv", venv])
    _pip("installing prefect 1.4.1 from PyPI, about half a minute", venv, "install", *REQUIREMENTS)


def _download(python: str, folder: Path) -> None:
    venv = prefect_python().parent.parent
    which = ["--only-binary=:all:", f"--python-version={python}", *_PLATFORMS, f"--dest={folder / 'wheels'}"]
    _pip(f"downloading wheels for Python {python} from PyPI", venv, "download", *which, *_WHEELS)


def _pip(doing: str, venv: Path, command: str, *arguments: str) -> None:
    pip = [venv / "bin/pip", command, "-qq", "--disable-pip-version-check"]
    try:
        loudly(doing, [*pip, *arguments], tries=_NETWORK_TRIES)
    except SetUpError as error:
        raise SetUpError(f"{error}\n{_HINT}") from None


if __name__ == "__main__":
    try:
        print(prefect_python())
    except SetUpError as error:
        sys.exit(f"error: {error}")
