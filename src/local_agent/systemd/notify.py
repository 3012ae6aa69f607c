"""The service's word to systemd (sd_notify(3)): ready, status, watchdog, reload, stop."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

import sdnotify

if TYPE_CHECKING:
    from collections.abc import Mapping

_USEC = 1_000_000


class Notifier(Protocol):
    """Takes what the service says about itself."""

    @property
    def watchdog_seconds(self) -> float | None:
        """How often systemd wants a sign of life, None where it does not."""

    def notify(self, *lines: str) -> None:
        """Say something, such as READY=1."""


class ServiceNotifier:
    """Speaks to systemd where it listens; silent elsewhere."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._sender = sdnotify.SystemdNotifier() if environ.get("NOTIFY_SOCKET") else None
        self.watchdog_seconds = _watchdog_seconds(environ) if self._sender else None

    def notify(self, *lines: str) -> None:
        """Send lines in one message."""
        if self._sender is not None:
            self._sender.notify("\n".join(lines))


def reloading() -> tuple[str, str]:
    """Return the two lines that announce a reload (sd_notify(3), MONOTONIC_USEC since 253, ignored before)."""
    return "RELOADING=1", f"MONOTONIC_USEC={int(time.monotonic() * _USEC)}"


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    usec = environ.get("WATCHDOG_USEC", "")
    pid = environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / _USEC
