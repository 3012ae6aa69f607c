"""Looking after live runs, with a clock that takes no time: stale heartbeats, cancellations, outages."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from local_agent import events
from local_agent.agent.flow_run import Live
from local_agent.agent.watch import Watch
from local_agent.errors import ApiUnreachableError, ManagerUnreachableError
from local_agent.model import RunState, RunView
from local_agent.settings import Settings
from support import samples
from support.clock import START, SkippingClock

_RUNNING = RunView(RunState.RUNNING, START)


class Process:
    """A live run's process, of which only `stop` is asked here."""

    def __init__(self, clock: SkippingClock, failures: int = 0, failure: Exception | None = None) -> None:
        self._failure = failure or ManagerUnreachableError("systemd does not answer")
        self.stopped_at: list[float] = []
        self.interrupted_at: list[float] = []
        self._clock = clock
        self._failures = failures

    def interrupt(self) -> None:
        """Note when."""
        self.interrupted_at.append(self._clock.monotonic() - 1000)

    async def stop(self, grace_seconds: float) -> None:
        """Note when; fail the first so many times."""
        assert grace_seconds > 0
        self.stopped_at.append(self._clock.monotonic() - 1000)
        if len(self.stopped_at) <= self._failures:
            raise self._failure


class StopInSteps:
    """A stop that is under way until it is let go on, held by nobody but its task."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.is_over = False
        self._wait: weakref.ref[asyncio.Future[None]] | None = None

    async def __call__(self, grace_seconds: float) -> None:
        """Wait."""
        future = asyncio.get_running_loop().create_future()
        self._wait = weakref.ref(future)
        self.begun.set()
        await future
        self.is_over = True

    def is_under_way(self) -> bool:
        """Tell whether its task is still there."""
        return self._wait is not None and self._wait() is not None

    def go_on(self) -> None:
        """End it."""
        future = self._wait() if self._wait else None
        assert future is not None
        future.set_result(None)


class Bed:
    """A watch over live runs, whose views a test gives as a function of the time."""

    def __init__(self, **settings: object) -> None:
        self.clock = SkippingClock(self._look_at_the_time)
        self.log = samples.ListLog()
        self.live: dict[str, Live] = {}
        self.views_of: Callable[[float], Mapping[str, RunView]] = lambda _: {}
        self.asked: list[float] = []
        self.name = "prefect1"
        self.heartbeats: list[tuple[float, Sequence[str]]] = []
        self._settings = samples.settings(**settings)
        self._until = 0.0
        self._is_over = asyncio.Event()

    @property
    def seconds(self) -> float:
        """How much time has passed."""
        return self.clock.monotonic() - 1000

    def add(self, run_id: str, *, failures: int = 0, failure: Exception | None = None, **more: object) -> Process:
        """Let a run live here; `more` is of its record."""
        process = Process(self.clock, failures, failure)
        record = samples.record(id=run_id, **more)
        self.live[run_id] = Live(record, process)  # type: ignore[arg-type]  # only what the watch asks of it
        return process

    async def views(self, ids: Sequence[str]) -> Mapping[str, RunView]:
        """Answer as the API."""
        self.asked.append(self.seconds)
        return {run_id: view for run_id, view in self.views_of(self.seconds).items() if run_id in ids}

    async def send_heartbeats(self, ids: Sequence[str]) -> None:
        """Take heartbeats as the API."""
        self.heartbeats.append((self.seconds, ids))

    async def watch_for(self, seconds: float) -> None:
        """Watch until so much time has passed."""
        watch = Watch(self, self.live, self.clock, self.log, self._get_settings)
        self._until, self._is_over = seconds, asyncio.Event()
        watching, over = asyncio.create_task(watch.for_ever()), asyncio.create_task(self._is_over.wait())
        await asyncio.wait([watching, over], return_when=asyncio.FIRST_COMPLETED)
        for task in (watching, over):
            task.cancel()
        await asyncio.gather(watching, over, return_exceptions=True)
        assert watching.cancelled(), f"the watch ended: {watching}"

    async def _look_at_the_time(self, _seconds: float) -> None:
        if self.seconds >= self._until:
            self._is_over.set()
            await asyncio.Event().wait()

    def _get_settings(self) -> Settings:
        return self._settings


async def test_without_live_runs_nothing_is_asked() -> None:
    bed = Bed()
    await bed.watch_for(600)
    assert bed.asked == []


async def test_a_stale_heartbeat_is_sent_for_a_run_that_lives_here() -> None:
    bed = Bed()
    bed.add("a")
    bed.views_of = lambda _: {"a": _RUNNING}
    await bed.watch_for(55)
    assert bed.heartbeats == []
    await bed.watch_for(200)
    first, ids = bed.heartbeats[0]
    assert 60 <= first <= 135
    assert ids == ["a"]
    assert set(bed.log.events) == {events.HEARTBEAT_SENT}


async def test_once_sent_it_is_fresh_again_for_a_minute() -> None:
    bed = Bed()
    bed.add("a")
    sent = bed.heartbeats
    bed.views_of = lambda _: {"a": RunView(RunState.RUNNING, START + timedelta(seconds=sent[-1][0] if sent else 0))}
    await bed.watch_for(400)
    times = [at for at, _ in sent]
    assert len(times) in (5, 6)
    assert all(later - earlier >= 60 for earlier, later in pairwise(times))


async def test_a_run_that_sends_its_own_needs_none() -> None:
    bed = Bed()
    bed.add("a")
    bed.views_of = lambda now: {"a": RunView(RunState.RUNNING, START + timedelta(seconds=now // 30 * 30))}
    await bed.watch_for(600)
    assert bed.heartbeats == []


async def test_wrong_clocks_make_no_run_stale_or_fresh() -> None:
    bed = Bed()
    bed.add("future")
    bed.add("past")
    frozen: Mapping[str, datetime] = {"future": START + timedelta(days=400), "past": START - timedelta(days=400)}
    bed.views_of = lambda _: {run_id: RunView(RunState.RUNNING, at) for run_id, at in frozen.items()}
    await bed.watch_for(59)
    assert bed.heartbeats == []
    await bed.watch_for(135)
    assert sorted(bed.heartbeats[0][1]) == ["future", "past"]


async def test_who_chose_to_have_none_gets_none() -> None:
    bed = Bed()
    bed.add("off", sends_heartbeat=False)
    bed.views_of = lambda _: {"off": _RUNNING}
    await bed.watch_for(600)
    assert bed.heartbeats == []


async def test_a_finished_run_that_still_lives_gets_none() -> None:
    bed = Bed()
    bed.add("a")
    bed.views_of = lambda _: {"a": RunView(RunState.FINISHED, START)}
    await bed.watch_for(600)
    assert bed.heartbeats == []


async def test_a_cancelled_run_is_stopped_when_its_grace_is_over() -> None:
    bed = Bed(cancel_grace_seconds=12)
    process, other = bed.add("a"), bed.add("b")
    bed.views_of = lambda now: {"a": RunView(RunState.CANCELLING if now > 20 else RunState.RUNNING, START)}
    await bed.watch_for(100)
    (stopped_at,) = process.stopped_at
    seen_at = next(at for at in bed.asked if at > 20)
    assert 12 <= stopped_at - seen_at < 13, "not at the next round"
    assert other.stopped_at == []
    assert bed.log.events.count(events.CANCELLING) == 1


async def test_a_run_that_was_cancelled_outright_is_stopped_too() -> None:
    bed = Bed(cancel_grace_seconds=5)
    process = bed.add("a")
    bed.views_of = lambda _: {"a": RunView(RunState.CANCELLED, START)}
    await bed.watch_for(60)
    assert len(process.stopped_at) == 1


async def test_who_does_not_hear_of_it_is_interrupted_at_once_and_has_its_grace_then() -> None:
    bed = Bed(cancel_grace_seconds=12)
    deaf, hears = bed.add("deaf", stops_itself=False), bed.add("hears")
    bed.views_of = lambda _: {"deaf": RunView(RunState.CANCELLING), "hears": RunView(RunState.CANCELLING)}
    await bed.watch_for(100)
    assert deaf.interrupted_at == [bed.asked[0]], "once, and at the first look"
    assert 12 <= deaf.stopped_at[0] - bed.asked[0] < 13
    assert hears.interrupted_at == []


async def test_what_the_api_does_not_know_any_more_ends_where_its_process_cannot_know_that() -> None:
    bed = Bed(cancel_grace_seconds=12)
    deaf, hears = bed.add("deaf", stops_itself=False), bed.add("hears")
    other = bed.add("other", stops_itself=False, backend="of another kind")
    bed.views_of = lambda _: {run_id: RunView(RunState.MISSING) for run_id in ("deaf", "hears", "other")}
    await bed.watch_for(100)
    assert (len(deaf.interrupted_at), len(deaf.stopped_at)) == (1, 1)
    assert hears.stopped_at == other.stopped_at == []


async def test_a_word_of_the_api_makes_a_look_at_once() -> None:
    bed = Bed()
    bed.add("a")
    watch = Watch(bed, bed.live, bed.clock, bed.log, samples.settings)
    sleeping = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        sleeping.set()
        await asyncio.Event().wait()

    bed.clock.on_sleep = sleep
    watching = asyncio.create_task(watch.for_ever())
    try:
        async with asyncio.timeout(30):
            for looks in range(3):
                await sleeping.wait()
                assert len(bed.asked) == looks
                sleeping.clear()
                watch.poke()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_cancellation_that_was_taken_back_stops_nothing() -> None:
    bed = Bed(cancel_grace_seconds=30)
    process = bed.add("a")
    bed.views_of = lambda now: {"a": RunView(RunState.CANCELLING if now < 20 else RunState.RUNNING, START)}
    await bed.watch_for(200)
    assert process.stopped_at == []


async def test_a_stop_that_failed_is_tried_again() -> None:
    bed = Bed(cancel_grace_seconds=5)
    process = bed.add("a", failures=2)
    bed.views_of = lambda _: {"a": RunView(RunState.CANCELLING, START)}
    await bed.watch_for(120)
    assert len(process.stopped_at) == 3
    assert bed.log.events.count(events.STATE_PROBLEM) == 2


async def test_a_stop_goes_on_when_its_run_is_seen_no_more() -> None:
    """The loop keeps no task alive by itself (asyncio.create_task)."""
    bed = Bed(cancel_grace_seconds=30)
    process = bed.add("a")
    process.stop = StopInSteps()  # type: ignore[method-assign]  # one that takes its time
    bed.views_of = lambda _: {"a": RunView(RunState.CANCELLING, START)}
    watching = asyncio.create_task(bed.watch_for(3600))
    await process.stop.begun.wait()
    del bed.live["a"]
    for _ in range(5):
        await asyncio.sleep(0)
        gc.collect()
    assert process.stop.is_under_way()
    process.stop.go_on()
    await watching
    assert process.stop.is_over


async def test_a_fault_in_a_stop_is_said_and_it_is_tried_again() -> None:
    bed = Bed(cancel_grace_seconds=30)
    process = bed.add("a", failures=1, failure=ZeroDivisionError("a fault"))
    bed.views_of = lambda _: {"a": RunView(RunState.CANCELLING, START)}
    await bed.watch_for(120)
    assert len(process.stopped_at) == 2
    assert events.INTERNAL_ERROR in bed.log.events


async def test_an_outage_ends_no_watch_and_asks_no_faster() -> None:
    bed = Bed(cancel_grace_seconds=5)
    process = bed.add("a")

    def views(now: float) -> Mapping[str, RunView]:
        if 20 < now < 300:
            raise ApiUnreachableError("no answer")
        return {"a": RunView(RunState.CANCELLING if now > 15 else RunState.RUNNING, START)}

    bed.views_of = views
    await bed.watch_for(400)
    assert len(process.stopped_at) == 1
    assert len([at for at in bed.asked if at < 300]) <= 300


async def test_a_run_that_has_ended_is_forgotten() -> None:
    bed = Bed(cancel_grace_seconds=30)
    process = bed.add("a")

    def views(now: float) -> Mapping[str, RunView]:
        if now > 20:
            bed.live.clear()
        return {"a": RunView(RunState.CANCELLING, START)}

    bed.views_of = views
    await bed.watch_for(100)
    assert process.stopped_at == []
    assert all(at < 40 for at in bed.asked)
