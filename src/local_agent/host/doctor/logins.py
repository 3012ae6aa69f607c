"""Whether users of flow runs have a manager of systemd of their own: it takes in any process of theirs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import ManagerUnreachableError
from local_agent.host.doctor.check import Finding, ok, warning
from local_agent.host.doctor.owner import entry_of
from local_agent.host.reading.bus import Wanted
from local_agent.units.names import SERVICES, instance_served_by

if TYPE_CHECKING:
    import pwd

    from local_agent.host.reading.bus import UnitReader

_LINGERING = Path("/var/lib/systemd/linger")
# what useradd(8) takes
_LONGEST_NAME = 31
_NO_USERS = re.compile(r"[^a-z0-9_-]")
_NO_LOGIN = ("/nologin", "/false")
_RUNS = ("active", "activating", "reloading")


def check_logins(reader: UnitReader, lingering: Path = _LINGERING) -> list[Finding]:
    """Look at the user of each instance that root does not run. Raise ManagerUnreachableError."""
    users = _users(reader)
    findings = [
        warning("logins", f"{user} {found.has}: flow runs can leave their limits by it", found.fix, name)
        for name, user in users
        if (found := _manager_of(name, user, reader, lingering))
    ]
    return findings or ([ok("logins", "no user of flow runs has a manager of its own")] if users else [])


def _users(reader: UnitReader) -> list[tuple[str, str]]:
    services = reader.list_units([SERVICES])
    users = reader.read([Wanted(unit.path, "Service", "User") for unit in services])
    if None in users:
        hint = "is PID 1 busy? systemctl list-jobs; then ask again"
        raise ManagerUnreachableError("systemd does not say which users the instances run as", hint=hint)
    names = [instance_served_by(unit.name) for unit in services]
    return [(name, str(user)) for name, user in zip(names, users, strict=True) if user not in ("", "root", "0")]


@dataclass(frozen=True, slots=True)
class _Manager:
    """That a user has a manager, or may get one, and what takes it away."""

    has: str
    fix: str


def _manager_of(instance: str, user: str, reader: UnitReader, lingering: Path) -> _Manager | None:
    entry = entry_of(user)
    if entry is None:
        return None
    may_log_in = not entry.pw_shell.endswith(_NO_LOGIN)
    other = _another_user(instance)
    if (lingering / entry.pw_name).exists():
        fix = other if may_log_in else f"loginctl disable-linger {entry.pw_name}"
        return _Manager("lingers, and so has a manager of its own", fix)
    if _has_manager(entry, reader):
        fix = other if may_log_in else f"systemctl stop user@{entry.pw_uid}.service"
        return _Manager(f"has a manager of its own, user@{entry.pw_uid}.service", fix)
    return _Manager(f"may log in ({entry.pw_shell}), and then has a manager", other) if may_log_in else None


def _has_manager(entry: pwd.struct_passwd, reader: UnitReader) -> bool:
    return any(unit.active_state in _RUNS for unit in reader.list_units([f"user@{entry.pw_uid}.service"]))


def _another_user(instance: str) -> str:
    """Return what gives an instance a user that nobody logs in as. Its drop-in is the last one, and so wins."""
    folder = f"/etc/systemd/system/local-agent@{instance}.service.d"
    user = f"flows-{_NO_USERS.sub('-', instance.lower())}"[:_LONGEST_NAME]
    add = f"useradd --system --create-home --shell /usr/sbin/nologin --expiredate 1 {user}"
    write = f"mkdir -p {folder} && printf '[Service]\\nUser={user}\\n' >{folder}/zz-user.conf"
    restart = f"systemctl daemon-reload && systemctl restart local-agent@{instance}"
    return f"{add} && {write} && {restart} # once none of its flow runs is here"
