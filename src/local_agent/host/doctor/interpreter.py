"""The interpreter that runs flow runs: whether it has the prefect that they need, and who may change what it imports.

What fixes it never writes into a folder that is the system's: Debian's own Python belongs to its packages.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.agent.interpreter import run_bounded, unfit
from local_agent.host.doctor.check import Finding, failure, ok, warning
from local_agent.host.reading.found import owner_name, user_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_agent.backends import Needs

_ASK_VERSION = "import importlib.metadata as m, sys; print(m.version('prefect'), sys.version.split()[0])"
_SECONDS = 60.0
_OWN = Path("/opt/flows/venv")
_VENV = "pyvenv.cfg"
# A venv that somebody made there by mistake makes them no less the system's.
SYSTEM = (Path("/"), Path("/usr"), Path("/usr/local"), Path("/bin"), Path("/opt"), Path("/home"), Path("/root"))


def check_interpreter(python: Path, needs: Needs, name: str, *, typed_by_root: bool = True) -> Finding:
    """Whether the flows' interpreter has what flow runs need. It is run by this process, which must not be root's.

    `typed_by_root` is whether root types what fixes it, or this process' user.
    """
    try:
        code, answer = run_bounded([str(python), "-c", _ASK_VERSION], _SECONDS)
    except PermissionError:
        fix = f"namei -l {_quoted(python)} # shows what keeps it out; or set `python` to another interpreter"
        return failure("interpreter", f"{user_name(os.geteuid())} may not run {python}", fix, name)
    except (OSError, TimeoutError) as error:
        fix = _install_elsewhere(needs, name, typed_by_root=typed_by_root)
        return failure("interpreter", f"{python} does not run: {error}", fix, name)
    version, _, python_version = answer.strip().partition(" ") if code == 0 else ("", "", "")
    evidence = unfit(python, version, needs)
    if evidence:
        return failure("interpreter", evidence, _install(python, needs, name, typed_by_root=typed_by_root), name)
    return ok("interpreter", f"prefect {version} on Python {python_version} at {python}", name)


def _install(python: Path, needs: Needs, name: str, *, typed_by_root: bool) -> str:
    """Return the command that installs prefect: into its environment where it has one, as that one's owner."""
    venv = _venv_of(python)
    owner = owner_name(venv) if venv is not None else ""
    if not owner:
        return _install_elsewhere(needs, name, typed_by_root=typed_by_root)
    # whoever may write into it could have root run anything
    as_owner = f"runuser -u {owner} -- " if typed_by_root and owner != "root" else ""
    return f"{as_owner}{_quoted(python)} -m pip install {_packages(needs)}"


def _install_elsewhere(needs: Needs, name: str, *, typed_by_root: bool) -> str:
    """Return the command that makes an environment with prefect, and in its comment what to set then."""
    plain = name.replace("/", "-")  # of another user's agent it is USER/NAME
    venv = _new_venv(plain) if typed_by_root else Path.home() / f".local/share/local-agent/{plain}/venv"
    package = "apt-get install -y python3-venv && " if typed_by_root else ""
    python = _quoted(venv / "bin/python")
    return (
        f"{package}python3 -m venv {_quoted(venv)} && {python} -m pip install {_packages(needs)}"
        f' # then set python = "{venv}/bin/python"'
    )


def _packages(needs: Needs) -> str:
    return " ".join(f"'{package}'" for package in needs.packages)


def _new_venv(name: str) -> Path:
    return _OWN.with_name(f"venv-{name}") if _OWN.exists() else _OWN


def _venv_of(python: Path) -> Path | None:
    """Return the virtual environment of an interpreter, None where it is the system's or stands by itself."""
    folder = Path(os.path.abspath(python)).parent.parent  # noqa: PTH100 - the link in a venv is not followed
    return folder if folder not in SYSTEM and (folder / _VENV).exists() else None


def check_environment(python: Path, needs: Needs, name: str) -> Finding:
    """Whether flow runs could change what later ones import. To be asked with the rights of their user."""
    prefix = python.parent.parent
    parts = (python, python.parent, prefix, *sorted(prefix.glob("lib/python3*/site-packages")))
    changeable = [part for part in parts if os.access(part, os.W_OK)]
    if changeable:
        evidence = f"flow runs can write {changeable[0]}: what one leaves there all later ones run"
        return warning("environment", evidence, _close(python, changeable, needs, name), name)
    return ok("environment", f"flow runs cannot change {prefix}", name)


def _close(python: Path, changeable: Sequence[Path], needs: Needs, name: str) -> str:
    """Return the command that gives it to root: an environment as a whole, an interpreter that stands by itself."""
    venv = _venv_of(python)
    if venv is not None:
        return f"chown -R root: {_quoted(venv)} && chmod -R go-w,go+rX {_quoted(venv)}"
    if changeable == [python]:
        return f"chown root: {_quoted(python)} && chmod go-w,go+rX {_quoted(python)}"
    return _install_elsewhere(needs, name, typed_by_root=True)  # its folder is somebody's for other ends


def interpreter_not_asked(python: Path, name: str, why: str) -> Finding:
    """What is said where it is not run."""
    fix = f"{_quoted(python)} -m pip show prefect # as the agent's user"
    return warning("interpreter", f"not asked: {why}", fix, name)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
