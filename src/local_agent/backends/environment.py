"""What of the agent's own environment a flow run inherits, whatever API it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# what systemd tells a service about itself means nothing, or harm, to a flow run
_SYSTEMD_NAMES = frozenset(
    {
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "CREDENTIALS_DIRECTORY",
        "STATE_DIRECTORY",
        "RUNTIME_DIRECTORY",
        "CACHE_DIRECTORY",
        "LOGS_DIRECTORY",
        "CONFIGURATION_DIRECTORY",
        "SYSTEMD_EXEC_PID",
        "MAINPID",
        "MANAGERPID",
        "FDSTORE",
        "MEMORY_PRESSURE_WATCH",
        "MEMORY_PRESSURE_WRITE",
    }
)
_SCRUBBED_PREFIXES = ("LISTEN_", "LOCAL_AGENT_")


def scrubbed(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what concerns the agent alone."""
    return {
        name: text
        for name, text in environ.items()
        if name not in _SYSTEMD_NAMES and not name.startswith(_SCRUBBED_PREFIXES)
    }
