"""What a unit gives its agent beyond user, groups and key: files of variables, flags, the state folder.

And what a process was given that is in no unit of its own: root reads its environment and its command line.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from local_agent.host.doctor.environment_file import variables_of
from local_agent.host.doctor.instance import Surroundings, read_surroundings
from local_agent.host.reading.bus import Wanted
from local_agent.host.reading.found import arguments_in
from local_agent.linux import procfs
from local_agent.linux.untrusted import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from local_agent.host.reading.bus import UnitReader

    FlagsOf = Callable[[Sequence[str]], Mapping[str, object]]

_PROPERTIES = ("EnvironmentFiles", "UnsetEnvironment", "StateDirectory", "ExecStart")
_MAX_BYTES = 1 << 20
_BRACED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_WORD = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")


def read_given(reader: UnitReader, unit_path: str, flags_of: FlagsOf, state_home: str = "/var/lib") -> Surroundings:
    """Given the object of a service, return all that systemd gives its agent at the next start.

    `flags_of` takes the words after `local-agent start` apart. Raise ManagerUnreachableError, UnavailableError.
    """
    around = read_surroundings(reader, unit_path)
    files, unset, folders, commands = (
        answer or () for answer in reader.read([Wanted(unit_path, "Service", name) for name in _PROPERTIES])
    )
    environ = {**(around.environ or {}), **variables_of((str(path), bool(ignored)) for path, ignored in files)}
    environ = {name: value for name, value in environ.items() if not _is_unset(name, value, unset)}
    if folders:
        environ["STATE_DIRECTORY"] = ":".join(f"{state_home}/{folder}" for folder in folders)
    words = commands[0][1] if commands else ()
    return replace(around, environ=environ, flags=_flags_in(_expanded(words, environ), flags_of))


def given_to(pid: int, uid: int, flags_of: FlagsOf) -> Surroundings | None:
    """Return what a process was given at its start, None where it has ended or may not be read."""
    before = procfs.identity_of(pid)
    try:
        text = read_regular(f"/proc/{pid}/environ", _MAX_BYTES)
        words = procfs.command_of(pid, _MAX_BYTES)
    except OSError:
        return None
    if before is None or procfs.identity_of(pid) != before:
        return None
    variables = (one.decode(errors="surrogateescape").partition("=") for one in text.split(b"\0") if b"=" in one)
    return Surroundings(str(uid), {name: value for name, _, value in variables}, flags=_flags_in(words, flags_of))


def _flags_in(words: Sequence[str], flags_of: FlagsOf) -> Mapping[str, object] | None:
    arguments = arguments_in(words)
    return flags_of([word for word in arguments if word]) if arguments is not None else None


def _is_unset(name: str, value: str, unset: Iterable[object]) -> bool:
    return any(str(one) in (name, f"{name}={value}") for one in unset)


def _expanded(words: Sequence[object], environ: Mapping[str, str]) -> list[str]:
    """Replace variables in a command line as systemd does: $NAME alone may be several words (systemd.service(5))."""
    expanded: list[str] = []
    for word in map(str, words):
        alone = _WORD.fullmatch(word)
        if alone:
            expanded += environ.get(alone.group(1), "").split()
        else:
            replaced = _BRACED.sub(lambda match: environ.get(match.group(1), ""), word)
            expanded.append(replaced.replace("$$", "$"))
    return expanded
