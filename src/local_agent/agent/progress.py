"""Signs of progress of the agent's main loop, for the watchdog and for /api/health."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# what a step may take beyond what it means to: a machine under load, a disk that is slow
_PATIENCE_SECONDS = 60.0


class Progress:
    """Remembers when the loop came to its latest step, and how long it means to be at it.

    Marked from the loop, read from any thread.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._marked = (monotonic(), 0.0)  # together: a thread must not see one without the other

    def mark(self, most_seconds: float = 0.0) -> None:
        """Note that the loop came to a step that may take so many seconds: a pause, a request with its timeout."""
        self._marked = (self._monotonic(), most_seconds)

    @property
    def age_seconds(self) -> float:
        """How long ago that was."""
        return self._monotonic() - self._marked[0]

    @property
    def is_stuck(self) -> bool:
        """Whether the step takes longer than it means to, and than anything can explain."""
        marked_at, most_seconds = self._marked
        return self._monotonic() - marked_at > most_seconds + _PATIENCE_SECONDS
