"""Whether flow runs can be started here at all. What cannot be started is not claimed: other agents may have it.

Checks look before a page of the queue is taken. What no check foresees is learned from a launch that failed through
no fault of the flow run's: then no run is claimed for a while, and after that one, as a trial.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from local_agent.aio.clock import Backoff
from local_agent.errors import LocalAgentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from local_agent.aio.clock import Clock

# how long all checks together may take: the bus, the broker and the interpreter have half a minute each
LOOK_SECONDS = 180.0
_FIRST_PAUSE_SECONDS = 5.0
_MAX_PAUSE_SECONDS = 60.0


class Check(Protocol):
    """Looks at one thing without which no flow run can be started."""

    def __call__(self, in_doubt: bool, /) -> Awaitable[str]:  # noqa: FBT001 - the one word that a check is given
        """Return why none can, "" where they can, or raise a LocalAgentError that says why.

        `in_doubt`: a launch failed, so look closer than is cheap.
        """


class Fitness:
    """Knows why no flow run is claimed: what the first check says that says anything, or the launch that failed."""

    def __init__(self, checks: Sequence[Check], clock: Clock) -> None:
        self._checks = checks
        self._clock = clock
        self._found = ""
        self._in_doubt = True  # nothing has been started yet
        self._failure = ""
        self._trial_at = 0.0
        self._backoff = Backoff(_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)

    async def look(self) -> None:
        """Ask the checks. To be done before a page is taken."""
        in_doubt, self._in_doubt = self._in_doubt or bool(self._found), False
        for check in self._checks:
            try:
                self._found = await check(in_doubt)
            except LocalAgentError as error:
                self._found = error.message
            except OSError as error:  # at a limit even to look needs what there is none of
                self._found = f"it cannot be seen whether a flow run can be started: {error.strerror or error}"
            if self._found:
                return

    def reason_against(self) -> str:
        """Return why no flow run is claimed now, "" where one may be."""
        if self._found:
            return self._found
        is_paused = self._failure and self._clock.monotonic() < self._trial_at
        return f"the last one could not be started: {self._failure}" if is_paused else ""

    def taken(self) -> None:
        """Note that one is about to be claimed. After a failure it is the trial: others wait for its pause."""
        if self._failure:
            self._pause()

    def launched(self) -> None:
        """Note that one was started."""
        self._failure = ""
        self._backoff.reset()

    def launch_failed(self, reason: str) -> None:
        """Note that one could not be started although it is not to blame. Many at once count as one failure."""
        if not self._failure:
            self._pause()
        self._failure = reason
        self._in_doubt = True

    def _pause(self) -> None:
        self._trial_at = self._clock.monotonic() + self._backoff.next_seconds()
