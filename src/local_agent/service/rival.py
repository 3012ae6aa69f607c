"""Whether a service of systemd already is the agent that somebody is about to start by hand.

A second one would have the same name and the same labels and another state folder: it takes half of the flow runs, as
another user and without the service's limits.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import ConfigError
from local_agent.linux import cgroup, procfs
from local_agent.units.names import service_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEMPLATE_SLICE = "local\\x2dagent.slice"


def refuse_beside_a_service(instance: str, own_cgroup: str | None = None, root: Path = cgroup.ROOT) -> None:
    """Given an instance's name, raise ConfigError if its service runs and this process is none of it.

    What is looked at is the service's cgroup, which any user may see: also if the bus does not answer.
    """
    unit = service_of(instance)
    own = procfs.cgroup_of(os.getpid()) if own_cgroup is None else own_cgroup
    if unit in own.split("/") or not any(_is_populated(path) for path in _cgroups_of(unit, root)):
        return
    raise ConfigError(
        f"{unit} is this agent already: two of one name share its flow runs",
        hint=f"`local-agent status` shows it, `journalctl -u {unit} -f` what it does; to try settings beside it, "
        f"give another --instance",
    )


def _cgroups_of(unit: str, root: Path) -> Iterator[Path]:
    """Return where the service of the system's manager lies, and that of this user's own manager."""
    uid = os.geteuid()
    yield root / "system.slice" / f"system-{_TEMPLATE_SLICE}" / unit
    yield (
        root
        / "user.slice"
        / f"user-{uid}.slice"
        / f"user@{uid}.service"
        / "app.slice"
        / f"app-{_TEMPLATE_SLICE}"
        / unit
    )


def _is_populated(path: Path) -> bool:
    try:
        return "populated 1" in (path / "cgroup.events").read_text()
    except OSError:
        return False
