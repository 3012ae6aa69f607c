"""Which systemd manager can make scopes for this agent, if any."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import ConfigError
from local_agent.systemd.names import service_of, slice_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_agent.launchers.scope import Place

_BOOTED = Path("/run/systemd/system")  # sd_booted(3)


@dataclass(frozen=True, slots=True)
class Found:
    """A manager: its bus, and how to call it; both "" where there is none, and then why."""

    bus: str
    words: str
    reason: str = ""


def find(uid: int, environ: Mapping[str, str], booted: Path = _BOOTED) -> Found:
    """Given who the agent runs as, return the manager to ask for scopes."""
    if not booted.is_dir():
        return Found("", "", "systemd does not run this machine")
    if uid == 0:
        return Found("unix:path=/run/dbus/system_bus_socket", "the system's manager")
    runtime = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}")
    if (runtime / "bus").exists():
        return Found(f"unix:path={runtime}/bus", "the user's own manager")
    return Found(
        "",
        "",
        f"{runtime}/bus is missing, so the user's own manager cannot be asked (packages libpam-systemd and "
        "dbus-user-session, and `loginctl enable-linger` for a user without a session)",
    )


def required(found: Found) -> Found:
    """Return a manager that was found; raise ConfigError where `--launcher scope` has none."""
    if not found.bus:
        raise ConfigError(
            f"launcher: scope cannot be used here: {found.reason}", hint="use --launcher process, or auto"
        )
    return found


def place_of(instance: str, environ: Mapping[str, str], make: type[Place]) -> Place:
    """Return where an instance's scopes lie. Only a service can be ordered behind, and only systemd starts services."""
    return make(slice_of(instance), service_of(instance) if environ.get("INVOCATION_ID") else "")
