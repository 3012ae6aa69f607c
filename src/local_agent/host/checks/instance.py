"""An instance: its settings, its state folder, its API, its interpreter, its labels."""

from __future__ import annotations

import asyncio
import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_agent.backends.prefect1.inquiry import look_at
from local_agent.errors import ConfigError, CredentialError, LocalAgentError
from local_agent.host.bus import Wanted
from local_agent.host.checks import Finding, failure, ok, warning
from local_agent.settings import load_settings
from local_agent.store import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from local_agent.backends.prefect1.inquiry import ApiView
    from local_agent.host.agents import StateFolder
    from local_agent.host.bus import UnitReader
    from local_agent.settings import Settings

_CREDENTIAL = "api-key"
_ASK_VERSION = "import importlib.metadata as m, sys; print(m.version('prefect'), sys.version.split()[0])"
_INTERPRETER_SECONDS = 60.0
_LATE_SECONDS, _WRONG_SECONDS = 10.0, 120.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What systemd gives an instance's service: its user, its environment, where its key lies."""

    user: str = ""
    environ: Mapping[str, str] | None = None
    key_file: str = ""


def read_surroundings(reader: UnitReader, unit_path: str) -> Surroundings:
    """Given the object of an instance's service, return what systemd gives it."""
    names = ("User", "Environment", "LoadCredential")
    user, lines, credentials = reader.read([Wanted(unit_path, "Service", name) for name in names])
    environ = dict(str(line).partition("=")[::2] for line in lines or ())
    keys = [str(path) for name, path in credentials or () if name == _CREDENTIAL]
    return Surroundings(str(user or ""), environ, keys[0] if keys else "")


def check_settings(name: str, around: Surroundings, hostname: str) -> tuple[Settings | None, list[Finding]]:
    """Read the settings as the instance's service does; None where they are wrong."""
    flags = {"instance": name, **({"api_key_file": around.key_file} if around.key_file else {})}
    environ = {"HOME": _home(around.user), **(around.environ or {})}
    try:
        settings = load_settings(flags=flags, environ=environ, hostname=hostname)
    except ConfigError as error:
        evidence = "; ".join([error.message, *error.problems])
        mend = f"correct it there; local-agent config --instance {name} shows every setting"
        return None, [failure("settings", evidence, mend, name)]
    except OSError as error:
        return None, [warning("settings", f"they cannot be read: {error}", "run this as root", name)]
    files = ", ".join(map(str, settings.files)) or "defaults only"
    mend = f"local-agent config --instance {name}" if os.geteuid() == 0 else "sudo local-agent doctor"
    doubts = [warning("settings", text, mend, name) for text in settings.warnings]
    return settings, doubts or [ok("settings", files, name)]


def _home(user: str) -> str:
    try:
        return pwd.getpwnam(user or "root").pw_dir
    except KeyError:
        return "/nonexistent"


def check_folder(folder: StateFolder | None, name: str, user: str) -> Finding:
    """The state folder: its agent's user must own it and be able to write, and nobody else may look in."""
    if folder is None:
        return ok("state folder", "none yet; systemd makes it at the first start", name)
    path, owner = folder.path, _name_of(folder.uid)
    strange = next((part for part in (path, path / "runs") if user and _owner_of(part) not in (user, "")), None)
    if strange is not None:
        evidence = f"{strange} belongs to {_owner_of(strange)}, and the agent runs as {user}"
        return failure("state folder", evidence, f"chown -R {user}: {path}", name)
    mode = path.stat().st_mode
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        return failure("state folder", f"{owner} may not write to {path}", f"chmod 0700 {path}", name)
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        mend = f"journalctl -k -e tells why; then mount -o remount,rw $(findmnt -no TARGET -T {path})"
        return failure("state folder", f"{path} is mounted read-only: no flow run is claimed", mend, name)
    aside = sorted(path.glob(f"runs/*{UNREADABLE}")) if os.access(path, os.X_OK) else []
    if aside:
        evidence = f"records that could not be read were put aside, nobody reports these ends: {_ids(aside)}"
        return warning(
            "state folder", evidence, f"look these flow runs up at the API; rm {path}/runs/*{UNREADABLE}", name
        )
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return warning("state folder", f"others may look into {path}", f"chmod 0700 {path}", name)
    return ok("state folder", f"{path}, of {owner}", name)


def _ids(paths: Sequence[Path]) -> str:
    return ", ".join(path.name.partition(".")[0] for path in paths)


def _owner_of(path: Path) -> str:
    try:
        return _name_of(path.stat().st_uid)
    except OSError:
        return ""


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def check_api(settings: Settings, name: str) -> tuple[list[Finding], ApiView | None]:
    """Whether the API answers and accepts the key, and what its clock says."""
    try:
        view = asyncio.run(look_at(settings))
    except CredentialError as error:
        return [failure("API key", error.message, error.hint, name)], None
    except LocalAgentError as error:
        return [failure("API", error.message, error.hint or f"curl -v {settings.api}", name)], None
    key = "its key is accepted" if settings.api_key else "it asks for no key"
    return [ok("API", f"{settings.api} answers; {key}", name), check_clock(view, name)], view


def check_clock(view: ApiView, name: str) -> Finding:
    """Whether the clocks here and at the API agree."""
    ahead = view.ahead_seconds
    if ahead is None:
        return ok("clock", "the API tells no time to compare with", name)
    evidence = f"the API's is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
    mend = "timedatectl set-ntp true; timedatectl timesync-status; and the same on the API's machine"
    if abs(ahead) > _WRONG_SECONDS:
        return failure("clock", f"{evidence}: flow runs start at the wrong time", mend, name)
    if abs(ahead) > _LATE_SECONDS:
        return warning("clock", evidence, mend, name)
    return ok("clock", "the API's agrees", name)


def check_interpreter(python: Path, user: str, name: str) -> Finding:
    """Whether the flows' interpreter has Prefect 1. It is run as the agent's user: its files need not be root's."""
    mend = f"python3 -m venv {python.parent.parent} && {python} -m pip install 'prefect==1.4.1' 'marshmallow<4'"
    try:
        done = _ask(python, user)
    except PermissionError:
        mend = f"namei -l {python} shows what keeps it out; chmod a+x {python} and the folders above it"
        return failure("interpreter", f"{user or 'this user'} may not run {python}", mend, name)
    except (OSError, subprocess.TimeoutExpired, KeyError) as error:
        return failure("interpreter", f"{python} does not run: {error}", mend, name)
    if done.returncode != 0:
        return failure("interpreter", f"{python} has no prefect", mend, name)
    version, _, python_version = done.stdout.strip().partition(" ")
    if not version.startswith(("0.", "1.")):
        return failure("interpreter", f"{python} has prefect {version}; flow runs need Prefect 1", mend, name)
    return ok("interpreter", f"prefect {version} on Python {python_version} at {python}", name)


def _ask(python: Path, user: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), "-c", _ASK_VERSION],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_INTERPRETER_SECONDS,
        check=False,
        cwd="/",
        **_as_user(user),
    )


def _as_user(user: str) -> dict[str, Any]:
    """Return how to start a process as a user, where this one is root."""
    if os.geteuid() != 0 or not user or user == "root":
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def check_labels(name: str, settings: Settings, others: Iterable[Settings], view: ApiView | None) -> Finding:
    """Whether another agent takes the same flow runs; by accident, it is found out when they fail there."""
    labels = _chosen(settings.effective_labels, settings.hostname)
    same = [one for one in others if one.api == settings.api and _chosen(one.effective_labels, one.hostname) == labels]
    here = [one.instance for one in same if one.instance != settings.instance]
    known = {settings.name, *(one.name for one in same)}
    neighbours = view.neighbours if view else ()
    strangers = [one for one in neighbours if one.name not in known]
    there = {one.name or "without a name" for one in strangers if _chosen(one.labels, settings.hostname) == labels}
    sharing = [*(f"instance {other} of this host" for other in here), *(f"agent {other}" for other in sorted(there))]
    shown = ", ".join(settings.effective_labels) or "no labels"
    if sharing:
        mend = "give it labels of its own, unless they are meant to share the work: `labels` in its .toml file"
        return warning("labels", f"{shown}: the same as of {', '.join(sharing)}", mend, name)
    return ok("labels", f"{shown}; no other agent has just these", name)


def _chosen(labels: Iterable[str], hostname: str) -> set[str]:
    """Return the labels that somebody chose: an agent may add its host's name, and takes the others' flow runs, too."""
    return {*labels} - {hostname} or {*labels}
