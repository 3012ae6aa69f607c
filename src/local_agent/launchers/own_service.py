"""What becomes of plain processes when the service that this agent runs in is stopped.

systemd ends everything in a service's cgroup at its stop, unless KillMode= says otherwise (systemd.kill(5)). Flow runs
in scopes are elsewhere; plain processes are in there, and nothing that the agent says may promise them more.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

_KILL_MODE_SECONDS = 5.0
_DEFAULT_KILL_MODE = "control-group"  # systemd's own
_KILLS_ALL = ("control-group", "mixed")


@dataclass(frozen=True, slots=True)
class OwnService:
    """The unit that this agent is in, "" where it is none of systemd's, and its KillMode="""

    unit: str = ""
    kill_mode: str = ""

    @property
    def takes_all_along(self) -> bool:
        """Whether what the agent has started as plain processes is killed when it stops."""
        return self.unit.endswith(".service") and self.kill_mode in _KILLS_ALL


def find(cgroup: str) -> OwnService:
    """Given this process's cgroup, return its service. It asks systemctl and may take some seconds."""
    unit, is_users = unit_in(cgroup)
    return OwnService(unit, _kill_mode(unit, "--user" if is_users else "--system")) if unit else OwnService()


def unit_in(cgroup: str) -> tuple[str, bool]:
    """Given a process's cgroup, return its unit, "" where it is in none, and whether that is a user's own manager's."""
    parts = [part for part in cgroup.split("/") if part.endswith((".service", ".scope"))]
    return (parts[-1], any(part.startswith("user@") for part in parts[:-1])) if parts else ("", False)


def _kill_mode(unit: str, manager: str) -> str:
    words = ["systemctl", manager, "show", "--value", "--property=KillMode", "--", unit]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_KILL_MODE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return _DEFAULT_KILL_MODE
    return done.stdout.strip() or _DEFAULT_KILL_MODE
