"""`local-agent config --instance NAME`: what the running agent uses, or else what its unit gives it.

Never what the shell of the one who asks would give it: root's variables and root's ~/.prefect are not the agent's.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_agent.errors import ConfigError, LocalAgentError, NotFoundError, UnavailableError
from local_agent.host.doctor.given import given_to, read_given
from local_agent.host.doctor.instance import Surroundings, read_surroundings
from local_agent.host.doctor.look import readable_key
from local_agent.host.doctor.owner import ROOT, NotAskedError, Owner, as_owner, owner_of
from local_agent.host.reading.in_use import ask_settings
from local_agent.settings import Source, SourceKind, load_settings
from local_agent.settings.show import as_json, as_lines
from local_agent.units.names import service_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_agent.host.doctor.given import FlagsOf
    from local_agent.host.reading.agents import StateFolder
    from local_agent.host.reading.bus import UnitReader
    from local_agent.host.reading.instances import Instance
    from local_agent.host.view import Host
    from local_agent.settings import Settings

_LOOK_SECONDS = 30.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEY = "api-key"


@dataclass(frozen=True, slots=True)
class Shown:
    """The settings as `config --json` prints them and as lines; `notes` say whose they are and what waits."""

    told: Mapping[str, Any]
    lines: tuple[str, ...]
    notes: tuple[str, ...]


def settings_of(host: Host, name: str, flags: Mapping[str, object], flags_of: FlagsOf) -> Shown | None:
    """Given an instance's name and more flags, return its settings; None where only this shell's can be told.

    With more flags nobody is asked: they are what a start with them would make. Raise ConfigError where its settings
    are wrong, UnavailableError where they cannot be looked at, NotFoundError.
    """
    folder = next((folder for folder in host.folders if folder.instance == name), None)
    if folder is None and "/" in name:
        raise NotFoundError(f"no instance {name!r} is on this host", hint="local-agent status shows those there are")
    instance = _instance(host, name)
    if folder is not None and instance is not None and not flags and (used := ask_settings(folder)):
        whose = f"this is what the running agent uses{_process(instance)}"
        waits = used.waiting.in_words(instance.how_to_restart, instance.how_to_reload)
        return Shown({**used.told, "from": "agent"}, used.lines, (whose, *waits))
    try:
        around, where = _around(host, name, instance, folder, flags_of)
        owner = owner_of(around.user, around.groups) if around else None
        if around is None or owner is None or host.uid not in (ROOT, owner.uid):
            return None
        return _read(host, name, around, owner, flags, where)
    except NotAskedError as error:
        raise UnavailableError(str(error), hint="systemctl status dbus; systemctl list-jobs; then ask again") from error


def _instance(host: Host, name: str) -> Instance | None:
    try:
        (found,), _ = host.instances(name)
    except NotFoundError:
        return None
    return found


def _process(instance: Instance) -> str:
    return f", process {instance.agent_pid}" if instance.agent else ""


def _around(
    host: Host, name: str, instance: Instance | None, folder: StateFolder | None, flags_of: FlagsOf
) -> tuple[Surroundings | None, str]:
    """Return what the agent is given, and by what."""
    service = instance.service if instance else None
    manager, unit = (service.manager, service.unit) if service else ("system", service_of(name))
    if manager in host.managers and "/" not in unit:
        with host.managers[manager]() as reader:
            path = _path_of(reader, unit)
            if path and not _may_read(host, manager, read_surroundings(reader, path)):
                return None, ""
            if path:
                around = read_given(reader, path, flags_of, _state_home(manager))
                return (replace(around, user=str(host.uid)) if manager == "user" else around), unit
    pid = (instance.agent_pid if instance else 0) or (folder.pid if folder else 0)
    if folder is not None and pid:
        return given_to(pid, folder.uid, flags_of), f"process {pid}"
    return None, ""


def _may_read(host: Host, manager: str, around: Surroundings) -> bool:
    """Tell whether a unit's files are for the one who asks: root and its own user."""
    return manager == "user" or host.uid in (ROOT, owner_of(around.user, around.groups).uid)


def _path_of(reader: UnitReader, unit: str) -> str:
    units = [one for one in reader.list_named([unit]) if one.load_state == "loaded"]
    return units[0].path if units else ""


def _state_home(manager: str) -> str:
    return "/var/lib" if manager == "system" else str(Path.home() / ".local" / "state")


def _read(host: Host, name: str, around: Surroundings, owner: Owner, flags: Mapping[str, object], where: str) -> Shown:
    with readable_key(around.key_file, owner) as key:
        seen = replace(around, key_file=key)
        is_other = host.uid == ROOT and owner.uid != ROOT

        def look() -> dict[str, Any]:
            return _told(name, seen, around.key_file, owner, flags)

        found = as_owner(owner, around.environ or {}, look, _LOOK_SECONDS) if is_other else look()
    if "wrong" in found:
        raise ConfigError(
            str(found["wrong"]), hint=str(found.get("hint", "")), problems=tuple(map(str, found.get("problems", ())))
        )
    notes = [f"no running agent was asked: this is what {where} gives it, read as {owner.name}"]
    if around.flags is None:
        notes.append(f"the command line of {where} is no plain `local-agent start`: what flags it gives is not known")
    return Shown({**found["told"], "from": "unit"}, tuple(map(str, found["lines"])), tuple(notes))


def _told(name: str, around: Surroundings, key_file: str, owner: Owner, flags: Mapping[str, object]) -> dict[str, Any]:
    environ = {"HOME": owner.home, "PATH": _PATH, **(around.environ or {})}
    named = {"instance": name.rpartition("/")[2], **(around.flags or {})}
    key = {"api_key_file": around.key_file} if around.key_file and not {"api_key", "api_key_file"} & {*named} else {}
    try:
        settings = load_settings(flags={**named, **key, **flags}, environ=environ, hostname=socket.gethostname())
    except LocalAgentError as error:
        problems = error.problems if isinstance(error, ConfigError) else ()
        return {"wrong": error.message, "problems": [*problems], "hint": error.hint}
    settings = _with_its_key(settings, key_file) if key and "api_key_file" not in flags else settings
    return {"told": as_json(settings), "lines": [*as_lines(settings)]}


def _with_its_key(settings: Settings, key_file: str) -> Settings:
    """Say of the key that it is the unit's credential: here it came another way."""
    if settings.sources["api_key"].kind is not SourceKind.FLAG:
        return settings
    source = Source(SourceKind.CREDENTIAL, _KEY, Path(key_file))
    return replace(settings, sources={**settings.sources, "api_key": source})
