"""What concerns a flow run of somebody else, or an answer of the API, is said once and not at each poll."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from local_agent.events import Event, EventLog, Subject

_MAX_KEYS = 10_000


class SaidOnce:
    """Says an event the first time that it comes with its key. After ten thousand keys it begins anew."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._keys: set[str] = set()

    @property
    def keys(self) -> AbstractSet[str]:
        """The keys that something was said for."""
        return self._keys

    def say(self, key: str, event: Event, subject: Subject | None = None, **fields: object) -> bool:
        """Say an event unless one was said with this key. Return whether it was said now."""
        if key in self._keys:
            return False
        if len(self._keys) >= _MAX_KEYS:
            self._keys.clear()
        self._keys.add(key)
        self._log.say(event, subject, **fields)
        return True
