"""All that is looked at with the rights of an instance's own user: settings, state folder, API, interpreter."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from local_agent.backends import Neighbour, kind
from local_agent.host.doctor.check import Finding, Verdict, warning
from local_agent.host.doctor.instance import check_api, check_folder, check_settings, folder_of_another
from local_agent.host.doctor.interpreter import check_environment, check_interpreter, interpreter_not_asked
from local_agent.host.doctor.owner import ROOT, NotAskedError, Owner, as_owner
from local_agent.host.reading.found import user_name
from local_agent.settings.show import as_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local_agent.host.doctor.instance import Surroundings
    from local_agent.host.doctor.owner import Enclosed
    from local_agent.host.reading.agents import StateFolder
    from local_agent.settings import Settings

LOOK_SECONDS = 180.0  # longer than all that is asked in it takes by itself
_MAX_KEY_BYTES = 1 << 16
_NOT_ITS_USER = "its user and root can: others would run it with rights of their own"
_AS_ROOT = "it would run as root, and it may be another user's; nothing of the kind is run as root"


@dataclass(frozen=True, slots=True)
class Subject:
    """An instance to look at: its name, its host, what systemd gives it, its state folder."""

    name: str
    hostname: str
    around: Surroundings
    folder: StateFolder | None


@dataclass(frozen=True, slots=True)
class Peer:
    """What other agents compare their labels with."""

    instance: str
    name: str
    api: str
    hostname: str
    effective_labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found; `peer` is None where its settings are wrong or were not read, and `settings` empty.

    `settings` has each one's value, as `config --json` shows it.
    """

    findings: tuple[Finding, ...]
    peer: Peer | None = None
    neighbours: tuple[Neighbour, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


def not_looked_at(name: str, why: str) -> Inspection:
    """What is said where nobody could look: neither that it is well nor that it is not."""
    evidence = f"settings, API and interpreter are not asked: {why}"
    return Inspection(
        (warning("instance", evidence, "systemctl status dbus; systemctl list-jobs # then ask again", name),)
    )


def look_at(subject: Subject, owner: Owner, uid: int, enclosed: Enclosed) -> Inspection:
    """Given the uid that looks, look with the rights of the instance's owner.

    `enclosed` is for what root has that user run. Raise NotAskedError, and whatever `enclosed` raises.
    """
    folder = subject.folder
    if folder is not None and folder.uid != owner.uid:
        stranger = folder_of_another(folder, folder.path, user_name(folder.uid), owner.name)
        rest = not_looked_at(subject.name, "it is not certain whose they are")
        return Inspection((stranger, *rest.findings))
    if uid != ROOT:
        return _look(subject, owner.name, "" if uid == owner.uid else _NOT_ITS_USER)
    if owner.uid == ROOT:
        return _look(subject, owner.name, _AS_ROOT)
    around = subject.around
    with readable_key(around.key_file, owner) as path:
        seen = replace(subject, around=replace(around, key_file=path))

        def look() -> dict[str, Any]:
            return _told(_look(seen, owner.name, as_another=True))

        found = as_owner(owner, around.environ or {}, look, LOOK_SECONDS, enclosed)
    return _understood(found, subject.name, {path: around.key_file} if path != around.key_file else {})


@contextlib.contextmanager
def readable_key(key_file: str, owner: Owner) -> Iterator[str]:
    """Give the path of a copy of a key that a user may read for the length of the context; the path itself without."""
    key = _key_of(key_file)
    try:
        if key >= 0:
            os.fchown(key, owner.uid, owner.gid)
        yield f"/proc/self/fd/{key}" if key >= 0 else key_file
    finally:
        if key >= 0:
            os.close(key)


def _key_of(path: str) -> int:
    """Return a copy of a key that systemd gives to an agent and root alone may read, -1 where there is none."""
    if not path:
        return -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return -1
    try:
        text = os.read(descriptor, _MAX_KEY_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except OSError:
        text = None
    finally:
        os.close(descriptor)
    if text is None:
        return -1
    copy = os.memfd_create("api-key", os.MFD_CLOEXEC)
    os.fchmod(copy, 0o400)
    os.write(copy, text)
    return copy


def _look(subject: Subject, user: str, against: str = "", *, as_another: bool = False) -> Inspection:
    """Look with the rights of this process. `against` is why the interpreter is not run, "" where it is.

    `as_another`: root's child looks, as the user of a service.
    """
    name = subject.name
    settings, found = check_settings(name, subject.around, subject.hostname, _fix_settings(name))
    findings = [*found, check_folder(subject.folder, name, user)]
    if settings is None:
        return Inspection(tuple(findings))
    about_api, view = check_api(settings, name)
    python, needs = settings.python, kind(settings.protocol).needs
    asked = [
        interpreter_not_asked(python, name, against)
        if against
        else check_interpreter(python, needs, name, typed_by_root=as_another)
    ]
    if as_another:  # a user's own agent runs in environments of that user's
        asked.append(check_environment(python, needs, name))
    return Inspection(
        (*findings, *about_api, *asked), _peer(name, settings), view.neighbours if view else (), _values(settings)
    )


def _values(settings: Settings) -> dict[str, object]:
    """As JSON has them, through which a child's go."""
    told = json.loads(json.dumps(as_json(settings)["settings"]))
    return {key: one["value"] for key, one in told.items()}


def _fix_settings(name: str) -> str:
    return f"local-agent config --instance {name}"


def _peer(name: str, settings: Settings) -> Peer:
    labels = tuple(settings.effective_labels)
    return Peer(name, settings.name, settings.api, settings.hostname, labels)


def _told(look: Inspection) -> dict[str, Any]:
    findings = [{**asdict(finding), "verdict": finding.verdict.value} for finding in look.findings]
    neighbours = [asdict(one) for one in look.neighbours]
    return {
        "findings": findings,
        "peer": asdict(look.peer) if look.peer else None,
        "neighbours": neighbours,
        "settings": dict(look.settings),
    }


def _understood(found: Mapping[str, Any], name: str, words: Mapping[str, str]) -> Inspection:
    """Given what a child told, return it: another user's word, so anything may be in it. Raise NotAskedError."""
    try:
        findings = tuple(_finding(one, words) for one in found["findings"])
        peer = found["peer"]
        neighbours = tuple(Neighbour(str(one["name"]), _texts(one["asks_for"])) for one in found["neighbours"])
        return Inspection(findings, _peer_of(peer) if peer else None, neighbours, dict(found["settings"]))
    except (KeyError, TypeError, ValueError) as error:
        raise NotAskedError(f"what a look at {name} told is not understood: {error!r}") from error


def _finding(told: Mapping[str, Any], words: Mapping[str, str]) -> Finding:
    evidence, fix = str(told["evidence"]), str(told["fix"])
    for word, shown in words.items():
        evidence = evidence.replace(word, shown)
    return Finding(str(told["check"]), Verdict(told["verdict"]), evidence, fix, str(told["about"]))


def _peer_of(told: Mapping[str, Any]) -> Peer:
    return Peer(
        instance=str(told["instance"]),
        name=str(told["name"]),
        api=str(told["api"]),
        hostname=str(told["hostname"]),
        effective_labels=_texts(told["effective_labels"]),
    )


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError("no list")
    return tuple(map(str, values))
