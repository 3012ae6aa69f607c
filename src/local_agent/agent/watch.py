"""Looking after the flow runs that live here: cancelled at the API? heartbeat gone stale although the process lives?"""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_agent import events
from local_agent.errors import LocalAgentError
from local_agent.events import Subject
from local_agent.model import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from local_agent.agent.flow_run import Live
    from local_agent.aio.clock import Clock
    from local_agent.backends import LiveRuns
    from local_agent.events import EventLog
    from local_agent.model import RunView
    from local_agent.settings import Settings

_LOOK_SECONDS = 5.0
_MIN_PAUSE_SECONDS = 1.0
_STALE_SECONDS = 60.0
_STOP_GRACE_SECONDS = 10.0
_MAX_AT_ONCE = 500


@dataclass
class _Seen:
    """What was seen of one run: its state, since when its heartbeat is the same, and since when it is cancelling."""

    heartbeat: datetime | None
    heartbeat_since: float
    state: RunState
    cancelling_since: float | None = None
    was_interrupted: bool = False
    stopping: asyncio.Task[None] | None = None


class Watch:
    """One request looks at all live runs; none is sent when there are none.

    Ages are counted on this machine's monotonic clock from when a change was seen, so that a wrong clock here or at
    the API makes no run look stale or fresh.
    """

    def __init__(
        self,
        backend: LiveRuns,
        live: Mapping[str, Live],
        clock: Clock,
        log: EventLog,
        settings: Callable[[], Settings],
    ) -> None:
        self._backend = backend
        self._live = live
        self._clock = clock
        self._log = log
        self._settings = settings
        self._seen: dict[str, _Seen] = {}
        self._stops: set[asyncio.Task[None]] = set()  # also of runs that are seen no more
        self._wake = asyncio.Event()

    def states(self) -> Mapping[str, RunState]:
        """Return the state at the API of each live run, as it was at the last look."""
        return {run_id: seen.state for run_id, seen in self._seen.items()}

    def poke(self) -> None:
        """Look now: the API says that a state has changed."""
        self._wake.set()

    async def for_ever(self) -> None:
        """Look again and again. While the API is out of reach there is nothing to see."""
        try:
            await self._look_for_ever()
        finally:
            for task in self._stops:
                task.cancel()
            await asyncio.gather(*self._stops, return_exceptions=True)

    async def _look_for_ever(self) -> None:
        while True:
            await self._pause()
            live = {run_id: one for run_id, one in self._live.items() if self._is_known_there(one)}
            self._seen = {run_id: seen for run_id, seen in self._seen.items() if run_id in live}
            try:
                for ids in _chunks(list(live)):
                    await self._look(ids, live)
            except LocalAgentError:
                continue

    async def _pause(self) -> None:
        """Wait for the next look, or for a word of the API; what is said while a look is under way makes another."""
        pause = asyncio.create_task(self._clock.sleep(self._pause_seconds()))
        poked = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait((pause, poked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            poked.cancel()
        self._wake.clear()

    def _is_known_there(self, live: Live) -> bool:
        """Tell whether this API can know a flow run: one of an API of another kind is unknown to it, and not gone."""
        return live.record.backend in ("", self._backend.name)

    def _pause_seconds(self) -> float:
        """Return how long until the next look; the grace of a cancelled run may be over before the usual time."""
        now, grace = self._clock.monotonic(), self._settings().cancel_grace_seconds
        over = [
            seen.cancelling_since + grace - now
            for seen in self._seen.values()
            if seen.cancelling_since is not None and seen.stopping is None
        ]
        return max(_MIN_PAUSE_SECONDS, min([_LOOK_SECONDS, *over]))

    async def _look(self, ids: list[str], live: dict[str, Live]) -> None:
        views = await self._backend.views(ids)
        now = self._clock.monotonic()
        stale = []
        for run_id, view in views.items():
            if run_id not in live:
                continue
            seen = self._note(live[run_id], view, now)
            self._enforce_cancel(live[run_id], seen, now)
            if self._is_stale(live[run_id], view, seen, now):
                stale.append(run_id)
        if stale:
            await self._backend.send_heartbeats(stale)
            for run_id in stale:
                self._log.say(events.HEARTBEAT_SENT, _subject(live[run_id]))

    def _note(self, live: Live, view: RunView, now: float) -> _Seen:
        seen = self._seen.setdefault(live.record.id, _Seen(view.heartbeat, now, view.state))
        seen.state = view.state
        if seen.heartbeat != view.heartbeat:
            seen.heartbeat, seen.heartbeat_since = view.heartbeat, now
        if _is_to_end(live, view):
            seen.cancelling_since = now if seen.cancelling_since is None else seen.cancelling_since
        else:
            seen.cancelling_since, seen.was_interrupted = None, False
        return seen

    def _enforce_cancel(self, live: Live, seen: _Seen, now: float) -> None:
        """Its own process gets the first chance, once it knows; after the grace everything of it is stopped."""
        if seen.cancelling_since is None or seen.stopping is not None:
            return
        if not live.record.stops_itself and not seen.was_interrupted:
            seen.was_interrupted = True
            live.process.interrupt()
        if now - seen.cancelling_since >= self._settings().cancel_grace_seconds:
            self._log.say(events.CANCELLING, _subject(live))
            seen.stopping = asyncio.create_task(self._stop(live))
            self._stops.add(seen.stopping)
            seen.stopping.add_done_callback(self._stops.discard)

    async def _stop(self, live: Live) -> None:
        try:
            await live.process.stop(_STOP_GRACE_SECONDS)
        except LocalAgentError as error:
            self._log.say(events.STATE_PROBLEM, _subject(live), reason=error.message)
        except Exception:
            self._log.say(events.INTERNAL_ERROR, _subject(live), reason=traceback.format_exc())
        else:
            return
        self._seen.pop(live.record.id, None)  # the next look tries again

    def _is_stale(self, live: Live, view: RunView, seen: _Seen, now: float) -> bool:
        alive_and_running = view.state in (RunState.RUNNING, RunState.SUBMITTED) and live.record.sends_heartbeat
        return alive_and_running and now - seen.heartbeat_since >= _STALE_SECONDS


def _is_to_end(live: Live, view: RunView) -> bool:
    """Tell whether a process has no business to live on: cancelled, or gone at the API and not aware of it."""
    is_gone = view.state is RunState.MISSING and not live.record.stops_itself
    return is_gone or view.state in (RunState.CANCELLING, RunState.CANCELLED)


def _chunks(ids: list[str]) -> list[list[str]]:
    return [ids[start : start + _MAX_AT_ONCE] for start in range(0, len(ids), _MAX_AT_ONCE)]


def _subject(live: Live) -> Subject:
    return Subject(live.record.id, live.record.name, live.record.flow_name)
