"""The service's word to systemd (sd_notify(3)): ready, status, watchdog, reload, stop."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

import sdnotify

from local_agent.aio.outbox import Outbox
from local_agent.report import API_LOST_ERRNO

if TYPE_CHECKING:
    from collections.abc import Mapping

_USEC = 1_000_000
_MAX_BYTES = 256 * 1024


class Notifier(Protocol):
    """Takes what the service says about itself."""

    @property
    def watchdog_seconds(self) -> float | None:
        """How often systemd wants a sign of life, None where it does not."""

    def notify(self, *lines: str) -> None:
        """Say something, such as READY=1."""


class ServiceNotifier:
    """Speaks to systemd where it listens; silent elsewhere. PID 1 may be busy or stopped: nobody here waits for it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._outbox = Outbox(_NotifySink(), _what_was_lost, _MAX_BYTES) if address else None
        self.watchdog_seconds = _watchdog_seconds(environ) if address else None

    def notify(self, *lines: str) -> None:
        """Have lines sent in one message."""
        if self._outbox is not None:
            self._outbox.put("\n".join(lines).encode())

    def close(self, within_seconds: float) -> None:
        """Wait until systemd has everything, or so long."""
        if self._outbox is not None:
            self._outbox.close(within_seconds)


class _NotifySink:
    name = "systemd"
    is_stream = False

    def __init__(self) -> None:
        self._sender: sdnotify.SystemdNotifier | None = None

    def write(self, message: bytes) -> int:
        """Send one message, and wait while systemd's queue is full. Raise OSError where it cannot be sent."""
        if self._sender is None:
            self._sender = sdnotify.SystemdNotifier(debug=True)  # debug: errors are raised
        self._sender.notify(message.decode())
        return len(message)


def _what_was_lost(count: int, reason: str) -> bytes:
    """Nothing that systemd would take says so. Signs of life and words about the state come anew all the time."""
    return f"X_LOCAL_AGENT_LOST={count} while {reason}".encode()


def standing(words: str, *, api_is_lost: bool) -> tuple[str, str]:
    """Return the two lines that say how things stand: for people, and for programs (sd_notify(3)).

    Any user may read both of a service, as StatusText and StatusErrno, and `systemctl status` shows them.
    """
    return f"STATUS={words}", f"ERRNO={API_LOST_ERRNO if api_is_lost else 0}"


def reloading() -> tuple[str, str]:
    """Return the two lines that announce a reload (sd_notify(3), MONOTONIC_USEC since 253, ignored before)."""
    return "RELOADING=1", f"MONOTONIC_USEC={int(time.monotonic() * _USEC)}"


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    usec = environ.get("WATCHDOG_USEC", "")
    pid = environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / _USEC
