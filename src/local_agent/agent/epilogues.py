"""What runs in a flow run's own place once its end was reported: the hooks of a flow whose process was killed.

It is a process of its own, launched as the flow run's was. If the agent is killed before it or meanwhile, it is not run
again: at the next start the API knows the end, and nothing is reported twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from local_agent import events
from local_agent.errors import LocalAgentError
from local_agent.events import Subject
from local_agent.limits import Limits
from local_agent.wording import sentence

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local_agent.backends import Claims
    from local_agent.events import EventLog
    from local_agent.launchers import Launcher, LiveRun
    from local_agent.model import Child, End, Record

_MAX_SECONDS = 300.0
_MAX_WAITING = 20  # who was killed with a hundred others is let go of at once, so that it can be started anew


class Epilogues:
    """Runs them one after another, beside the flow runs that live."""

    def __init__(self, backend: Claims, launcher_of: Callable[[Record], Launcher], log: EventLog) -> None:
        self._backend = backend
        self._launcher_of = launcher_of
        self._log = log
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def after(self, record: Record, end: End, let_go: Callable[[], Awaitable[object]]) -> None:
        """Run what there is to run after a reported end; `let_go` makes room where the flow run's process was.

        What goes wrong is said, and changes nothing about the end.
        """
        if self._waiting >= _MAX_WAITING:
            return
        self._waiting += 1
        try:
            async with self._turn:
                await self._run(record, end, let_go)
        except LocalAgentError as error:
            self._say(record, f"its hooks were not run: {error.message}")
        finally:
            self._waiting -= 1

    async def _run(self, record: Record, end: End, let_go: Callable[[], Awaitable[object]]) -> None:
        child = await self._backend.epilogue(record, end)
        if child is None:
            return
        await let_go()
        process = await self._launched(record, child)
        try:
            process.open_gate()
            await process.ended()
            await process.sweep()
            end_of_it = await process.evidence()
        except BaseException:
            process.detach()
            raise
        await process.release()
        if not end_of_it.is_clean:
            self._say(record, f"its hooks did not end well: {sentence(end_of_it)}")

    async def _launched(self, record: Record, child: Child) -> LiveRun:
        limits = replace(record.limits or Limits(), runtime_max_seconds=_MAX_SECONDS)
        return await self._launcher_of(record).launch(record, child, limits)

    def _say(self, record: Record, reason: str) -> None:
        self._log.say(events.STATE_PROBLEM, Subject(record.id, record.name, record.flow_name), reason=reason)
        self._backend.log(record.id, f"{reason[:1].upper()}{reason[1:]}", "WARNING")
