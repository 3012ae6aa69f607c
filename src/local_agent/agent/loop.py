"""The agent's loops: poll the queue and hand over, look after what lives, tell systemd how things stand."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import traceback
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import TYPE_CHECKING

from local_agent import events
from local_agent.agent.enclosures import Enclosures
from local_agent.agent.fitness import LOOK_SECONDS
from local_agent.agent.guarded_loop import AFTER_FAULT_SECONDS, kept_up
from local_agent.agent.kinship import AllBut, Kinship
from local_agent.agent.said_once import SaidOnce
from local_agent.agent.watch import Watch
from local_agent.aio.clock import Backoff
from local_agent.errors import ApiRefusedError, ConfigError, CredentialError, LocalAgentError, UnavailableError
from local_agent.events import Subject
from local_agent.plain import shown_url
from local_agent.wording import ahead_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from local_agent.agent.admission import Admission
    from local_agent.agent.fitness import Fitness
    from local_agent.agent.flow_run import RunLifecycle
    from local_agent.agent.progress import Progress
    from local_agent.agent.reachability import Reachability
    from local_agent.aio.clock import Clock
    from local_agent.backends import Backend, QueuePage
    from local_agent.events import EventLog
    from local_agent.model import FlowRun, Record, RunState
    from local_agent.settings import Settings

_PREFETCH = timedelta(seconds=10)
_FIRST_DELAY_SECONDS = 0.25
_LOOK_SECONDS = 0.005
_CLAIM_SECONDS = 2.0
_OUTAGE_DELAY_SECONDS = 10.0
_UNSUPPORTED_SECONDS = 3600.0
_MAX_AFTER_FAULT_SECONDS = 600.0
_NEAR_MISSES_SECONDS = 60.0
_STOP_GRACE_SECONDS = 0.3
# a container's runtime waits 10 s by default before it kills
_SHUT_DOWN_SECONDS = 4.0
# what is not told by then waits on disk
_LAST_REPORTS_SECONDS = 5.0
_SEE_ENDS_SECONDS = 0.05
_WRONG_CLOCK_SECONDS = 10.0  # an answer tells whole seconds, and may have been under way for some
_REQUESTS_A_STEP = 10  # a page that a proxy finds too large is asked for in parts

_POLL_FAULT = UnavailableError("the queue cannot be asked, by a fault of local-agent itself; its log has the traceback")


class Agent:
    """Takes flow runs and sees to them until it is told to stop.

    `fitness` knows why no run could be started at all, which `admission` then says.
    `shut_down` ends every flow run within so many seconds; given where none can outlive this agent: it is process 1.
    `ends_with` names the service that systemd ends together with all flow runs; "" where they outlive it.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        lifecycle: RunLifecycle,
        admission: Admission,
        reachability: Reachability,
        progress: Progress,
        clock: Clock,
        log: EventLog,
        settings: Callable[[], Settings],
        fitness: Fitness,
        shut_down: Callable[[float], Awaitable[None]] | None = None,
        ends_with: str = "",
    ) -> None:
        self._backend = backend
        self._lifecycle = lifecycle
        self._admission = admission
        self._reachability = reachability
        self._progress = progress
        self._clock = clock
        self._log = log
        self._settings = settings
        self._fitness = fitness
        self._shut_down = shut_down
        self.ends_with = ends_with
        self._kinship = Kinship(backend, admission)
        self._watch = Watch(backend, lifecycle.live, clock, log, settings)
        self._enclosures = Enclosures(lifecycle, clock, log)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cooldown_until: dict[str, float] = {}
        self._not_understood: frozenset[str] = frozenset()
        self._once = SaidOnce(log)
        self._wake = asyncio.Event()
        self._connected = False
        self._was_connected = False
        self._paused_for = ""
        self._unfit_for = ""
        self._wrong_clock = ""
        self._trouble = ""
        self._near_misses_due_at = -math.inf
        admission.when_one_leaves(self._poke_if_full)

    @property
    def connected(self) -> bool:
        """Whether the API knows this agent."""
        return self._connected

    @property
    def live_count(self) -> int:
        """How many flow runs live here."""
        return len(self._lifecycle.live)

    @property
    def is_busy(self) -> bool:
        """Whether the story of any flow run is under way."""
        return bool(self._tasks)

    @property
    def fate(self) -> str:
        """What becomes of its flow runs when it stops, in words."""
        if self._shut_down:
            return "end with it"
        return f"are ended with {self.ends_with} by systemd" if self.ends_with else "go on running"

    @property
    def paused_for(self) -> str:
        """Why no flow run is taken now, "" where they are."""
        return self._paused_for

    @property
    def unfit_because(self) -> str:
        """Why no flow run could be started at all, "" where they can."""
        return self._fitness.reason_against()

    @property
    def api_problem(self) -> str:
        """What is not well between this agent and the API although that answers, "" where all is."""
        clock = f"this machine's clock is {self._wrong_clock} the API's" if self._wrong_clock else ""
        trouble = f"claims and ends do not get through: {self._trouble}" if self._trouble else ""
        return "; ".join(filter(None, (clock, trouble)))

    def api_states(self) -> Mapping[str, RunState]:
        """Return the state at the API of each live run, as it was at the last look."""
        return self._watch.states()

    def poke(self) -> None:
        """Poll now."""
        self._wake.set()

    def settings_changed(self) -> None:
        """Register anew, as labels or the name may be others now, and look at everything again."""
        self._connected = False
        self._cooldown_until.clear()
        self.poke()

    @property
    def has_lost_api(self) -> bool:
        """Whether the API does not answer, or has not answered yet."""
        return self._reachability.lost_for_seconds is not None

    def status(self) -> str:
        """Say in words how things stand, for STATUS=."""
        free = self._admission.free()
        places = "" if free is None else f", {free} slot{'' if free == 1 else 's'} free"
        paused = f"; takes none: {self._paused_for}" if self._paused_for else ""
        problem = f"; {self.api_problem}" if self.api_problem else ""
        return f"{len(self._lifecycle.live)} running{places}; {self._reachability.in_words()}{paused}{problem}"

    async def run(self, records: Iterable[Record], remembered: AbstractSet[str] = frozenset()) -> None:
        """Finish the lifecycle of `records`, take new ones. Return after --max-polls; otherwise run until cancelled.

        `remembered` are the flow runs that there is any record of: one that is not among `records` is not taken anew.

        Raise CredentialError where the API does not accept the key from the start.
        """
        for record in records:
            self._start(record.id, functools.partial(self._lifecycle.recover, record))
        self._not_understood = frozenset(remembered - self._tasks.keys())
        attend = functools.partial(self._backend.attend, self.poke, self._watch.poke)
        loops = (self._watch.for_ever, self._enclosures.for_ever, attend, self._fitness.look)
        beside = [asyncio.create_task(kept_up(loop, self._clock, self._log)) for loop in loops]
        try:
            await self._poll_for_ever()
            await self._until_launched()
        finally:
            await self._leave_everything_running(beside)

    async def _poll_for_ever(self) -> None:
        backoff = Backoff(_FIRST_DELAY_SECONDS, 1)
        polls = 0
        while (most := self._settings().max_polls) is None or polls < most:
            polls += 1
            delay = await self._poll_safely(backoff)
            if most is None or polls < most:
                await self._nap(delay)

    async def _poll_safely(self, backoff: Backoff) -> float:
        """Poll, and again after a fault in it: whatever the API answers, the loop goes on."""
        try:
            return await self._poll_once(backoff)
        except LocalAgentError:
            raise
        except Exception:
            self._log.say(events.INTERNAL_ERROR, reason=traceback.format_exc())
            self._reachability.failed(_POLL_FAULT)
            return AFTER_FAULT_SECONDS

    async def _poll_once(self, backoff: Backoff) -> float:
        """Poll, hand over what came, and return for how many seconds to wait now."""
        try:
            self._mark_request()
            if not self._connected:
                await self._connect()
                self._mark_request()
            reason = self._admission.reason_against()
            self._note_pause(reason)
            known = AllBut() if reason else self._known()
            page = await self._backend.due_runs(self._backend.earlier_now() + _PREFETCH, known)
            self._mark_request()
            if self._admission.lacks_only_places:
                await self._hand_over_children(page)
                self._mark_request()
            await self._look_for_near_misses(page)
        except (UnavailableError, CredentialError, ConfigError) as error:
            if not isinstance(error, UnavailableError) and not self._was_connected:
                raise  # somebody is just setting it up; later a key may be replaced at the API while flow runs run
            self._reachability.failed(error)
            return backoff.next_seconds(_OUTAGE_DELAY_SECONDS)
        except ApiRefusedError as error:
            self._reachability.failed(error)
            self._connected = False
            return backoff.next_seconds(_OUTAGE_DELAY_SECONDS)
        self._reachability.answered()
        self._note_clock()
        self._note_trouble()
        if await self._hand_over(page):
            backoff.reset()
            if page.is_full:
                await self._until_claimed()
                return 0.0
            pause = _FIRST_DELAY_SECONDS
        else:
            pause = backoff.next_seconds(self._settings().poll_interval_seconds)
        return pause if page.next_seconds is None else page.next_seconds

    async def _until_claimed(self) -> None:
        """A page asked for before the last one is claimed would only hold the same runs again."""
        await self._clock.sleep(_LOOK_SECONDS)  # the lifecycle' own first turn
        await self._wait_while(lambda: self._lifecycle.claiming, _CLAIM_SECONDS)

    async def _connect(self) -> None:
        choice = await self._backend.connect()
        self._connected = self._was_connected = True
        settings = self._settings()
        self._log.say(events.REGISTERED, api=shown_url(settings.api), asks_for=self._backend.asks_for())
        if choice:
            self._once.say(choice, events.TENANT_CHOSEN, choice=choice)

    async def _hand_over(self, page: QueuePage) -> bool:
        """Begin the story of each run that this agent may take. Return whether there was one."""
        for problem in page.problems:
            self._once.say(problem, events.NOT_UNDERSTOOD, reason=problem)
        runs = [run for run in page.runs if self._is_for_us(run)]
        if runs or self._fitness.reason_against():
            self._progress.mark(LOOK_SECONDS)
            await self._fitness.look()
        self._note_pause(self._admission.reason_against())
        if self._fitness.reason_against():
            return False
        for run in runs:
            self._log.say(events.TAKEN, _subject(run))
            self._start(run.id, functools.partial(self._tell, run))
        return bool(runs)

    def _note_pause(self, reason: str) -> None:
        """Say once when intake stops, once when it stops for want of something here, and once when it goes on."""
        unfit = self._fitness.reason_against() if reason else ""
        if bool(reason) != bool(self._paused_for) or (unfit and not self._unfit_for):
            self._log.say(events.INTAKE_PAUSED if reason else events.INTAKE_RESUMED, reason=reason)
        self._paused_for, self._unfit_for = reason, unfit

    def _note_clock(self) -> None:
        """Say once when this machine's clock is far from the API's, and once when it is right again."""
        ahead = self._backend.clock_ahead_seconds or 0.0
        is_wrong = abs(ahead) > _WRONG_CLOCK_SECONDS
        if is_wrong and not self._wrong_clock:
            self._log.say(events.CLOCK_WRONG, how=ahead_of(ahead))
        elif self._wrong_clock and not is_wrong:
            self._log.say(events.CLOCK_RIGHT)
        self._wrong_clock = ahead_of(ahead) if is_wrong else ""

    def _note_trouble(self) -> None:
        """Say once when the API answers and yet takes nothing, and once when it does again."""
        reason = self._backend.trouble
        if bool(reason) != bool(self._trouble):
            self._log.say(events.NOTHING_TAKEN if reason else events.TAKEN_AGAIN, reason=reason)
        self._trouble = reason

    def _is_for_us(self, run: FlowRun) -> bool:
        reason = self._backend.unsupported(run)
        if not reason or self._settings().reject_unsupported:
            return True
        self._cool_down(run.id, _UNSUPPORTED_SECONDS)
        if self._once.say(run.id, events.UNSUPPORTED, _subject(run), reason=reason):
            self._backend.log(run.id, f"Left to other agents: {reason}", "WARNING")
        return False

    async def _look_for_near_misses(self, page: QueuePage) -> None:
        """Name due runs that one setting more would bring here, now and then."""
        now = self._clock.monotonic()
        if page.is_full or now < self._near_misses_due_at:
            return
        self._near_misses_due_at = now + _NEAR_MISSES_SECONDS
        with contextlib.suppress(UnavailableError, ApiRefusedError):  # only advice: the page counts without it
            for miss in await self._backend.near_misses({*page.ids, *self._known(), *self._once.keys}):
                self._once.say(miss.run.id, events.NEAR_MISS, _subject(miss.run), reason=miss.reason)

    async def _hand_over_children(self, page: QueuePage) -> None:
        """Begin the lifecycle of those on a page that may have the place of the flow run that has created them."""
        known = self._known()
        parents = await self._kinship.takers([run_id for run_id in page.ids if run_id not in known])
        if not parents:
            return
        children = await self._backend.due_runs(self._backend.earlier_now() + _PREFETCH, AllBut(frozenset(parents)))
        for run in [run for run in children.runs if run.id in parents and self._is_for_us(run)]:
            self._log.say(events.TAKEN, _subject(run))
            self._start(run.id, functools.partial(self._tell, run, parents[run.id]))

    async def _tell(self, run: FlowRun, parent: str = "") -> None:
        leave_alone_seconds = await self._lifecycle.execute(run, parent)
        if leave_alone_seconds:
            self._cool_down(run.id, leave_alone_seconds)

    def _cool_down(self, flow_run_id: str, seconds: float) -> None:
        self._cooldown_until[flow_run_id] = self._clock.monotonic() + seconds

    def _known(self) -> AbstractSet[str]:
        now = self._clock.monotonic()
        self._cooldown_until = {run_id: until for run_id, until in self._cooldown_until.items() if until > now}
        return {*self._tasks, *self._cooldown_until, *self._not_understood}

    def _start(self, flow_run_id: str, story: Callable[[], Awaitable[None]]) -> None:
        """Begin a story. Its id is free when its task is over, even where that was cancelled before its first step."""
        task = self._tasks[flow_run_id] = asyncio.create_task(self._guard(flow_run_id, story))
        task.add_done_callback(lambda _: self._tasks.pop(flow_run_id, None))

    async def _guard(self, flow_run_id: str, story: Callable[[], Awaitable[None]]) -> None:
        """Keep a fault of one story from the others, and take it up again: its end must not wait for the next start."""
        backoff = Backoff(AFTER_FAULT_SECONDS, _MAX_AFTER_FAULT_SECONDS)
        while await self._has_fault(story):
            self._lifecycle.let_go(flow_run_id)
            await self._clock.sleep(backoff.next_seconds())
            story = functools.partial(self._lifecycle.retry_from_record, flow_run_id)

    async def _has_fault(self, story: Callable[[], Awaitable[None]]) -> bool:
        try:
            await story()
        except LocalAgentError as error:
            self._log.say(events.STATE_PROBLEM, reason=error.message)
        except Exception:
            self._log.say(events.INTERNAL_ERROR, reason=traceback.format_exc())
        else:
            return False
        return True

    def _poke_if_full(self) -> None:
        """A place is free again: no need to wait for the next poll, where there may be a backlog."""
        if self._paused_for and not self._admission.reason_against():
            self.poke()

    def _mark_request(self) -> None:
        """Note that the loop is about to ask: a request takes at most twice its timeout, and a step has few of them."""
        self._progress.mark(_REQUESTS_A_STEP * 2 * self._settings().request_timeout_seconds)

    async def _nap(self, seconds: float) -> None:
        self._progress.mark(seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    async def _until_launched(self) -> None:
        """After --max-polls: what was taken is started, as Prefect's agent does, and goes on running, where it can."""
        while any(self._shut_down or run_id not in self._lifecycle.live for run_id in self._tasks):
            self._progress.mark()
            await self._clock.sleep(0.05)

    async def _leave_everything_running(self, beside: list[asyncio.Task[None]]) -> None:
        """Stop. What is under way gets a moment to come to something."""
        self._admission.stopping = True
        await self._wait_while(lambda: self._lifecycle.launching, _STOP_GRACE_SECONDS)
        if self._shut_down is not None:
            await self._shut_down(_SHUT_DOWN_SECONDS)
        # when the machine is shut down all flow runs have ended just before this: let that be seen
        await self._clock.sleep(_SEE_ENDS_SECONDS)
        await self._wait_while(lambda: self._lifecycle.reporting, _LAST_REPORTS_SECONDS)
        tasks = [*beside, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for live in self._lifecycle.live.values():
            live.process.detach()

    async def _wait_while(self, busy: Callable[[], object], most_seconds: float) -> None:
        until = self._clock.monotonic() + most_seconds
        while busy() and self._clock.monotonic() < until:
            await self._clock.sleep(_LOOK_SECONDS)


def _subject(run: FlowRun) -> Subject:
    return Subject(run.id, run.name, run.flow_name)
