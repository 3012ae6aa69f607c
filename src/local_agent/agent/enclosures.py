"""Seeing that flow runs stay in their scopes: what has left one is in nobody's limits any more.

A user's own manager takes any process of that user into its service, at that user's wish. The rule: a flow run whose
shim is found outside of its scope is ended, with everything that is still in the scope and in the shim's session, and
its end is told as that of any run that was killed. What it had others start for it is beyond this agent's reach.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from local_agent import events
from local_agent.errors import LocalAgentError
from local_agent.events import Subject

if TYPE_CHECKING:
    from local_agent.agent.flow_run import Live, RunLifecycle
    from local_agent.aio.clock import Clock
    from local_agent.events import EventLog

_LOOK_SECONDS = 5.0


class Enclosures:
    """Looks at every live run, again and again."""

    def __init__(self, lifecycle: RunLifecycle, clock: Clock, log: EventLog) -> None:
        self._lifecycle = lifecycle
        self._clock = clock
        self._log = log

    async def for_ever(self) -> None:
        """Look every few seconds, whether or not the API can be reached."""
        while True:
            await self._clock.sleep(_LOOK_SECONDS)
            for live in list(self._lifecycle.live.values()):
                with contextlib.suppress(LocalAgentError):  # /proc cannot be asked now: the next look tells
                    self._look(live)

    def _look(self, live: Live) -> None:
        where = live.process.end_if_outside()
        if where:
            record = live.record
            self._log.say(events.LEFT_SCOPE, Subject(record.id, record.name, record.flow_name), where=where)
