"""Loops that outlive their own faults."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from local_agent import events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local_agent.aio.clock import Clock
    from local_agent.events import EventLog

AFTER_FAULT_SECONDS = 30.0


async def kept_up(loop: Callable[[], Awaitable[None]], clock: Clock, log: EventLog) -> None:
    """Run a loop, and again after a fault in it, which is said: without it the agent would do half its work unseen.

    Return where the loop does.
    """
    while True:
        try:
            return await loop()
        except Exception:
            log.say(events.INTERNAL_ERROR, reason=traceback.format_exc())
            await clock.sleep(AFTER_FAULT_SECONDS)
