"""What time it is by the API's clock, counted on this machine's monotonic one: neither jumps when this one is set.

A time that is written to the API is read by its clock and by those of other agents. Two sources tell it:

* `agent.last_queried`, which the API itself sets at each of this agent's polls. It counts.
* the Date of each answer, which may be a proxy's (nginx sends its own). It counts only where the API says nothing. If
  it moves against the monotonic clock, some clock was set, and the API is asked anew.

An API that seldom sets `last_queried` is known by this: the Date contradicts it, and at the next poll it has not moved.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from local_agent.backends.replies import time_of

if TYPE_CHECKING:
    from collections.abc import Callable

FAR_SECONDS = 10.0  # a Date tells whole seconds, and an answer may have been under way for some
_AGREE_SECONDS = 5.0
_ASK_AGAIN_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class _Word:
    """The API's own word: its time less the monotonic one, when that was said, and what the Date said then."""

    offset_seconds: float
    at_seconds: float
    date_offset_seconds: float | None


class ApiClock:
    """Follows the API's clock. Until anything was heard of it, it is this machine's."""

    def __init__(
        self, now: Callable[[], datetime] = lambda: datetime.now(UTC), monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._date_offset: float | None = None
        self._doubtful: _Word | None = None
        self._word: _Word | None = None
        self._asked_at: float | None = None

    def hear_date(self, text: str) -> None:
        """Note the Date of an answer that has just come."""
        date = time_of(text)
        if date is not None:
            self._date_offset = date.timestamp() + 0.5 - self._monotonic()

    def mark(self) -> float:
        """Return the monotonic time, to tell `hear` when a poll was sent and answered."""
        return self._monotonic()

    @property
    def is_to_be_asked(self) -> bool:
        """Whether the API's own word is wanted with the next poll."""
        if self._asked_at is None or self._doubtful is not None:
            return True
        was_set = self._word is not None and not _agree(self._date_offset, self._word.date_offset_seconds)
        return was_set or self._monotonic() - self._asked_at > _ASK_AGAIN_SECONDS

    def hear(self, last_queried: datetime | None, poll_sent_seconds: float, poll_answered_seconds: float) -> None:
        """Note what the API said of when this agent has polled, and when that was on the monotonic clock."""
        self._asked_at = self._monotonic()
        if last_queried is None:
            self._doubtful = self._word = None
            return
        polled_at = (poll_sent_seconds + poll_answered_seconds) / 2
        word = _Word(last_queried.timestamp() - polled_at, polled_at, self._date_offset)
        if _agree(self._date_offset, word.offset_seconds):
            self._word, self._doubtful = word, None
        elif self._doubtful is None:
            self._doubtful = word
        elif polled_at - self._doubtful.at_seconds > _AGREE_SECONDS:
            moved = abs(word.offset_seconds - self._doubtful.offset_seconds) < _AGREE_SECONDS / 2
            self._word, self._doubtful = word if moved else None, None

    def now(self) -> datetime:
        """Return the API's time."""
        offset = self._word.offset_seconds if self._word is not None else self._date_offset
        return self._now() if offset is None else datetime.fromtimestamp(offset + self._monotonic(), UTC)

    @property
    def ahead_seconds(self) -> float | None:
        """How far this machine's clock is ahead of the API's, None where nothing is known of that one."""
        if self._word is None and self._date_offset is None:
            return None
        return (self._now() - self.now()).total_seconds()

    def earlier_now(self) -> datetime:
        """Return this machine's time, or the API's where this machine's is far ahead of it by the API's own word.

        Flow runs start by this machine's clock, which their own process looks at. If it is two days ahead they are not
        to start two days early. A Date alone, which may be a proxy's, keeps nothing from starting.
        """
        if self._word is not None and (self.ahead_seconds or 0.0) > FAR_SECONDS:
            return self.now()
        return self._now()


def _agree(one: float | None, other: float | None) -> bool:
    return one is None or other is None or abs(one - other) < _AGREE_SECONDS
