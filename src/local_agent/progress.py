"""Signs of progress of the agent's main loop, for the watchdog and for /api/health."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# the longest that one round may take: three requests, each within twice its timeout, and the pause after them
_PATIENCE_SECONDS = 150.0


class Progress:
    """Remembers when the loop last came round. Marked from the loop, read from any thread."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._marked_at = monotonic()

    def mark(self) -> None:
        """Note that the loop came round."""
        self._marked_at = self._monotonic()

    @property
    def age_seconds(self) -> float:
        """How long ago that was."""
        return self._monotonic() - self._marked_at

    @property
    def is_stuck(self) -> bool:
        """Whether it is longer ago than anything in a round can explain."""
        return self.age_seconds > _PATIENCE_SECONDS
