"""Whether the API answers, since when, and saying so once per outage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_agent import events
from local_agent.wording import in_time

if TYPE_CHECKING:
    from local_agent.aio.clock import Clock
    from local_agent.errors import LocalAgentError
    from local_agent.events import EventLog


class Reachability:
    """Follows answers and failures; `say` goes to `log` at the first failure and at the first answer after it."""

    def __init__(self, log: EventLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._answered_at: float | None = None
        self._reachable_at: float | None = None
        self._lost_at: float | None = clock.monotonic()
        self._said = False
        self.reason = "it has not answered yet"

    def answered(self) -> None:
        """Note an answer."""
        now = self._clock.monotonic()
        if self._said and self._lost_at is not None:
            self._log.say(events.API_BACK, outage=in_time(now - self._lost_at))
        if self._lost_at is not None:
            self._reachable_at = now
        self._answered_at, self._lost_at, self._said, self.reason = now, None, False, ""

    def failed(self, error: LocalAgentError) -> None:
        """Note that there was none."""
        if self._lost_at is None:
            self._lost_at = self._clock.monotonic()
        self.reason = error.message
        if not self._said:
            self._said = True
            self._log.say(events.API_LOST, reason=error.message)

    @property
    def lost_for_seconds(self) -> float | None:
        """How long it has been out of reach, None while it answers."""
        return None if self._lost_at is None else self._clock.monotonic() - self._lost_at

    @property
    def reachable_for_seconds(self) -> float | None:
        """How long it has answered every time, None while it does not."""
        if self._lost_at is not None or self._reachable_at is None:
            return None
        return self._clock.monotonic() - self._reachable_at

    @property
    def answered_seconds_ago(self) -> float | None:
        """How long ago it answered last, None where it never did."""
        return None if self._answered_at is None else self._clock.monotonic() - self._answered_at

    def in_words(self) -> str:
        """Say how it stands, for STATUS=."""
        lost = self.lost_for_seconds
        if lost is not None:
            return f"API unreachable for {in_time(lost)}: {self.reason}"
        since = self._clock.monotonic() - (self._answered_at or 0.0)
        return f"API answered {in_time(since)} ago"
