"""Which systemd manager can make scopes for this agent, if any."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.broker.line_limits import LineLimits
from local_agent.broker.protocol import SOCKET_PATH
from local_agent.dbus import SYSTEM_BUS, address_of, bus_of_user
from local_agent.errors import ConfigError
from local_agent.linux.procfs import cgroup_of
from local_agent.systemd.broker_client import BrokerScopeManager
from local_agent.systemd.manager import DBusScopeManager
from local_agent.units.names import instance_in, service_of, slice_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local_agent.launchers.scope import Place
    from local_agent.systemd import ScopeManager

_BOOTED = Path("/run/systemd/system")  # sd_booted(3)


@dataclass(frozen=True, slots=True)
class Found:
    """A manager: how to open it, given the slice that is ours, None where there is none; its name, or why not."""

    open: Callable[[str], ScopeManager] | None
    words: str = ""
    reason: str = ""


def find(uid: int, environ: Mapping[str, str], booted: Path = _BOOTED, broker: Path = Path(SOCKET_PATH)) -> Found:
    """Given who the agent runs as, return the manager to ask for scopes."""
    if not booted.is_dir():
        return Found(None, reason="systemd does not run this machine")
    if uid == 0:
        return Found(lambda own: DBusScopeManager(SYSTEM_BUS, own, LineLimits()), "the system's manager")
    if broker.exists() and instance_in(cgroup_of(os.getpid())) is not None:
        words = "the system's manager through the broker"
        return Found(lambda own: BrokerScopeManager(broker, DBusScopeManager(SYSTEM_BUS, own)), words)
    bus = bus_of_user(uid, environ)
    if bus.exists():
        return Found(lambda own: DBusScopeManager(address_of(bus), own), "the user's own manager")
    return Found(
        None,
        reason=f"{bus} is missing, so the user's own manager cannot be asked (packages libpam-systemd and "
        "dbus-user-session, and `loginctl enable-linger` for a user without a session)",
    )


def required(found: Found, instance: str) -> ScopeManager:
    """Return a manager that was found; raise ConfigError where `--launcher scope` has none.

    A flow run's scope that lies in another slice than the instance's is another's, and not there for this one.
    """
    if found.open is None:
        raise ConfigError(
            f"launcher: scope cannot be used here: {found.reason}", hint="use --launcher process, or auto"
        )
    return found.open(slice_of(instance))


def place_of(instance: str, environ: Mapping[str, str], make: type[Place]) -> Place:
    """Return where an instance's scopes lie. Only a service can be ordered behind, and only systemd starts services."""
    return make(slice_of(instance), service_of(instance) if environ.get("INVOCATION_ID") else "")
