"""An instance: its settings, its state folder, its API, its interpreter, its labels."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from local_agent.backends import kind
from local_agent.errors import ConfigError, CredentialError, LocalAgentError, ManagerUnreachableError
from local_agent.host.doctor.check import Finding, failure, ok, warning
from local_agent.host.doctor.owner import entry_of
from local_agent.host.reading.bus import Wanted
from local_agent.host.reading.found import owner_name, user_name
from local_agent.host.reading.records import records_of
from local_agent.plain import shown_url, unix_path
from local_agent.settings import load_settings
from local_agent.store.records import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from local_agent.backends import ApiView
    from local_agent.host.reading.agents import StateFolder
    from local_agent.host.reading.bus import UnitReader
    from local_agent.settings import Settings

_CREDENTIAL = "api-key"
_LATE_SECONDS, _WRONG_SECONDS = 10.0, 120.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What systemd gives an instance's service: user ("" is root) and groups, environment, where its key lies.

    `flags` are those of its command line, option key -> what was given; None where they are not known.
    """

    user: str = ""
    environ: Mapping[str, str] | None = None
    key_file: str = ""
    groups: tuple[str, ...] = ()
    flags: Mapping[str, object] | None = None


def read_surroundings(reader: UnitReader, unit_path: str) -> Surroundings:
    """Given the object of an instance's service, return what systemd gives it.

    Raise ManagerUnreachableError where systemd leaves any of it out: a user that it does not tell is not root.
    """
    names = ("User", "Environment", "LoadCredential", "Group", "SupplementaryGroups")
    answers = reader.read([Wanted(unit_path, "Service", name) for name in names])
    if None in answers:
        missing = ", ".join(name for name, answer in zip(names, answers, strict=True) if answer is None)
        raise ManagerUnreachableError(
            f"systemd does not tell its {missing}", hint="systemctl list-jobs # is PID 1 busy?"
        )
    user, lines, credentials, group, more = answers
    environ = dict(str(line).partition("=")[::2] for line in lines)
    keys = [str(path) for name, path in credentials if name == _CREDENTIAL]
    groups = tuple(str(one) for one in (group, *more) if one)
    return Surroundings(str(user), environ, keys[0] if keys else "", groups)


def check_settings(
    name: str, around: Surroundings, hostname: str, shown_fix: str = "sudo local-agent doctor"
) -> tuple[Settings | None, list[Finding]]:
    """Read the settings as the instance's service does; None where they are wrong."""
    flags = {"instance": name.rpartition("/")[2], **(around.flags or {})}
    flags |= {"api_key_file": around.key_file} if around.key_file and not {"api_key", "api_key_file"} & {*flags} else {}
    environ = {"HOME": _home(around.user), **(around.environ or {})}
    try:
        settings = load_settings(flags=flags, environ=environ, hostname=hostname)
    except ConfigError as error:
        hint = f" ({error.hint})" if error.hint and not (error.problems or error.fixes) else ""
        evidence = "; ".join([error.message + hint, *error.problems])
        show = f"local-agent config --instance {name}"
        fix = " && ".join([*error.fixes, show]) if error.fixes else f"{show} # shows every setting; correct it there"
        return None, [failure("settings", evidence, fix, name)]
    except OSError as error:
        return None, [warning("settings", f"they cannot be read: {error}", "run this as root", name)]
    files = ", ".join(map(str, settings.files)) or "defaults only"
    doubts = [_doubt(text, shown_fix, name) for text in settings.warnings]
    return settings, doubts or [ok("settings", files, name)]


def _doubt(text: str, shown_fix: str, name: str) -> Finding:
    """A warning about a setting; what follows its semicolon fixes it."""
    evidence, _, fix = text.partition("; ")
    return warning("settings", evidence, fix or shown_fix, name)


def _home(user: str) -> str:
    entry = entry_of(user or "root")
    return entry.pw_dir if entry else os.environ.get("HOME", "/nonexistent")


def check_folder(folder: StateFolder | None, name: str, user: str) -> Finding:
    """The state folder: its agent's user must own it and be able to write, and nobody else may look in."""
    try:
        return _check_folder(folder, name, user)
    except OSError as error:
        path = folder.path if folder else "/var/lib/local-agent"
        fix = f"namei -l {path}; findmnt -T {path}"
        return failure("state folder", f"it cannot be looked at: {error}", fix, name)


def _check_folder(folder: StateFolder | None, name: str, user: str) -> Finding:
    if folder is None:
        return ok("state folder", "none yet; systemd makes it at the first start", name)
    path, owner = folder.path, user_name(folder.uid)
    strange = next((part for part in (path, path / "runs") if user and owner_name(part) not in (user, "")), None)
    if strange is not None:
        return folder_of_another(folder, strange, owner_name(strange), user)
    mode = path.stat().st_mode
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        return failure("state folder", f"{owner} may not write to {path}", f"chmod 0700 {path}", name)
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        fix = f"mount -o remount,rw $(findmnt -no TARGET -T {path}) # journalctl -k tells why it is so"
        return failure("state folder", f"{path} is mounted read-only: no flow run is claimed", fix, name)
    aside = sorted(path.glob(f"runs/*{UNREADABLE}")) if os.access(path, os.X_OK) else []
    if aside:
        evidence = f"records that could not be read were put aside, nobody reports these ends: {_ids(aside)}"
        return warning(
            "state folder",
            evidence,
            f"rm {path}/runs/*{UNREADABLE} # once you have looked these flow runs up at the API",
            name,
        )
    lost = [record.id for record in records_of(folder).records if not record.nonce]
    if lost:
        evidence = f"flow runs whose record was lost live here, the API is not told of their ends: {', '.join(lost)}"
        return warning("state folder", evidence, "look these flow runs up at the API once they have ended here", name)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return warning("state folder", f"others may look into {path}", f"chmod 0700 {path}", name)
    return ok("state folder", f"{path}, of {owner}", name)


def folder_of_another(folder: StateFolder, part: Path, owner: str, user: str) -> Finding:
    """What is said where the agent's user does not own its state folder."""
    evidence = f"{part} belongs to {owner}, and the agent runs as {user}"
    return failure("state folder", evidence, f"chown -R {user}: {folder.path}", folder.instance)


def _ids(paths: Sequence[Path]) -> str:
    return ", ".join(path.name.partition(".")[0] for path in paths)


def check_api(settings: Settings, name: str) -> tuple[list[Finding], ApiView | None]:
    """Whether the API answers and accepts the key, and what its clock says."""
    try:
        view = asyncio.run(_asked(settings))
    except CredentialError as error:
        return [failure("API key", error.message, error.hint, name)], None
    except LocalAgentError as error:
        fix = error.hint or f"local-agent config --instance {name} # is its `api` right?"
        return [failure("API", error.message, fix, name)], None
    key = "its key is accepted" if settings.api_key else "it asks for no key"
    if unix_path(settings.api):
        key = "this user may use its socket"
    return [ok("API", f"{shown_url(settings.api)} answers; {key}", name), check_clock(view, name)], view


async def _asked(settings: Settings) -> ApiView:
    return await kind(settings.protocol).inquire(settings)


def check_clock(view: ApiView, name: str) -> Finding:
    """Whether the clocks here and at the API agree."""
    ahead = view.ahead_seconds
    if ahead is None:
        return ok("clock", "the API tells no time to compare with", name)
    evidence = f"the API's is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
    fix = "timedatectl set-ntp true # with systemd-timesyncd or chrony installed; also on the API's machine"
    if abs(ahead) > _WRONG_SECONDS:
        return failure("clock", f"{evidence}: flow runs start at the wrong time", fix, name)
    if abs(ahead) > _LATE_SECONDS:
        return warning("clock", evidence, fix, name)
    return ok("clock", "the API's agrees", name)


class Labelled(Protocol):
    """What an agent's labels are compared by: its settings have it."""

    @property
    def instance(self) -> str:
        """Its instance."""

    @property
    def name(self) -> str:
        """What it is called at the API."""

    @property
    def api(self) -> str:
        """Its API."""

    @property
    def hostname(self) -> str:
        """Its host."""

    @property
    def effective_labels(self) -> Sequence[str]:
        """Its labels, with the host's name where that is one."""


def check_labels(name: str, settings: Labelled, others: Iterable[Labelled], view: ApiView | None) -> Finding:
    """Whether another agent takes the same flow runs; by accident, it is found out when they fail there."""
    labels = _chosen(settings.effective_labels, settings.hostname)
    same = [one for one in others if one.api == settings.api and _chosen(one.effective_labels, one.hostname) == labels]
    here = [one.instance for one in same if one.instance != settings.instance]
    known = {settings.name, *(one.name for one in same)}
    neighbours = view.neighbours if view else ()
    strangers = [one for one in neighbours if one.name not in known]
    there = {one.name or "without a name" for one in strangers if _chosen(one.asks_for, settings.hostname) == labels}
    sharing = [*(f"instance {other} of this host" for other in here), *(f"agent {other}" for other in sorted(there))]
    shown = ", ".join(settings.effective_labels) or "no labels"
    if sharing:
        fix = "give it labels of its own, unless they are meant to share the work: `labels` in its .toml file"
        return warning("labels", f"{shown}: the same as of {', '.join(sharing)}", fix, name)
    return ok("labels", f"{shown}; no other agent has just these", name)


def _chosen(labels: Iterable[str], hostname: str) -> set[str]:
    """Return the labels that somebody chose: an agent may add its host's name, and takes the others' flow runs, too."""
    return {*labels} - {hostname} or {*labels}
