"""Whether users of flow runs have a manager of systemd of their own: it takes in any process of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import ManagerUnreachableError
from local_agent.host.bus import Wanted
from local_agent.host.checks import Finding, ok, warning
from local_agent.host.checks.owner import entry_of

if TYPE_CHECKING:
    import pwd

    from local_agent.host.bus import UnitReader

_LINGERING = Path("/var/lib/systemd/linger")
_NO_LOGIN = ("/nologin", "/false")
_RUNS = ("active", "activating", "reloading")


def check_logins(reader: UnitReader, lingering: Path = _LINGERING) -> list[Finding]:
    """Look at the user of each instance that root does not run. Raise ManagerUnreachableError."""
    users = _users(reader)
    findings = [
        warning("logins", f"{user} {has}: flow runs can leave their limits by it", _mend(user, name), name)
        for name, user in users
        if (has := _manager_of(user, reader, lingering))
    ]
    return findings or ([ok("logins", "no user of flow runs has a manager of its own")] if users else [])


def _users(reader: UnitReader) -> list[tuple[str, str]]:
    services = reader.list_units(["local-agent@*.service"])
    users = reader.read([Wanted(unit.path, "Service", "User") for unit in services])
    if None in users:
        hint = "is PID 1 busy? systemctl list-jobs; then ask again"
        raise ManagerUnreachableError("systemd does not say which users the instances run as", hint=hint)
    names = [unit.name.removeprefix("local-agent@").removesuffix(".service") for unit in services]
    return [(name, str(user)) for name, user in zip(names, users, strict=True) if user not in ("", "root", "0")]


def _manager_of(user: str, reader: UnitReader, lingering: Path) -> str:
    entry = entry_of(user)
    if entry is None:
        return ""
    if (lingering / entry.pw_name).exists():
        return "lingers, and so has a manager of its own"
    if _has_manager(entry, reader):
        return f"has a manager of its own, user@{entry.pw_uid}.service"
    return "" if entry.pw_shell.endswith(_NO_LOGIN) else f"may log in ({entry.pw_shell}), and then has a manager"


def _has_manager(entry: pwd.struct_passwd, reader: UnitReader) -> bool:
    return any(unit.active_state in _RUNS for unit in reader.list_units([f"user@{entry.pw_uid}.service"]))


def _mend(user: str, name: str) -> str:
    other = f"flows-{name}"
    add = f"useradd --system --create-home --shell /usr/sbin/nologin --expiredate 1 {other}"
    edit = f"systemctl edit local-agent@{name}: User={other}"
    return f"loginctl disable-linger {user}; better a user that nobody logs in as: {add}, then {edit}"
