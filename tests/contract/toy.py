"""An API of another kind, and its backend: an example for whoever adds one, and the proof that nothing else changes.

What is unlike Prefect 1: it pushes its news, its flow runs send no heartbeats and hear of no cancellation, a claim is
decided by the API itself, what a run is to do is asked for when it has been claimed, and one nonce claims a whole page.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from contract.side import Fault
from local_agent.aio.clock import Backoff
from local_agent.backends import NearMiss, QueuePage
from local_agent.errors import ApiRefusedError, ApiUnreachableError
from local_agent.model import (
    Cause,
    Child,
    Claim,
    CrashAction,
    CrashPolicy,
    End,
    FlowRun,
    Outcome,
    Record,
    RunState,
    RunView,
)
from local_agent.wording import sentence
from support.clock import SkippingClock

_Value = TypeVar("_Value")

_OVER = frozenset({RunState.FINISHED, RunState.CANCELLED})
_LAND_SECONDS = 10.0


@dataclass
class Job:
    """What this API calls a flow run. `turns` is how often it was made to wait again after a crash."""

    id: str
    due: datetime
    state: RunState = RunState.WAITING
    claims: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    turns: int = 0

    @property
    def owner(self) -> str:
        """Whose claim it is of, "" for nobody's."""
        return "" if self.state is RunState.WAITING or not self.claims else self.claims[-1]


class Api:
    """Keeps jobs, decides by itself who has one, and tells everybody what changes."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.requests = self.polls = 0
        self.is_away = False
        self.spoilt: tuple[int, Fault] | None = None
        self._listeners: list[Callable[[], None]] = []

    async def ask(self, carry_out: Callable[[], _Value]) -> _Value:
        """Carry out a request, at once or not at all; raise ApiUnreachableError where no answer comes."""
        number, self.requests = self.requests, self.requests + 1
        fault = self.spoilt[1] if self.spoilt and self.spoilt[0] == number else None
        await asyncio.sleep(0)
        if self.is_away or fault is Fault.REFUSED:
            raise ApiUnreachableError("the toy API does not answer")
        answer = carry_out()
        await asyncio.sleep(0)
        if fault is Fault.LOST:
            raise ApiUnreachableError("the toy API's answer is lost")
        return answer

    def set(self, job: Job, state: RunState) -> None:
        """Set a state, and tell everybody."""
        job.state = state
        for listener in self._listeners:
            listener()

    @contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """Have the listener called at every change."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def waiting(self, before: datetime) -> Sequence[Job]:
        """Return what is due by then."""
        self.polls += 1
        return [job for job in self.jobs.values() if job.state is RunState.WAITING and job.due <= before]

    def claim(self, run_id: str, nonce: str) -> Claim:
        """Take a job that waits; whoever has it already hears so again."""
        job = self.jobs.get(run_id)
        if job is None:
            return Claim.LOST
        if job.state is RunState.WAITING:
            job.claims.append(nonce)
            self.set(job, RunState.SUBMITTED)
        return Claim.OURS if job.owner == nonce else Claim.LOST

    def owned(self, run_id: str, nonce: str) -> Job | None:
        """Return a job that a claim still holds."""
        job = self.jobs.get(run_id)
        return job if job is not None and job.owner == nonce else None


@dataclass(frozen=True, slots=True)
class Detail:
    """What this backend keeps in a flow run."""

    waits_for: str


class ToyBackend:
    """Fulfils `Backend`."""

    name = "toy"
    clock_ahead_seconds: float | None = None
    trouble = ""

    def __init__(self, api: Api, clock: SkippingClock) -> None:
        self._api = api
        self._clock = clock
        self._page = uuid.uuid4().hex
        self._waiting: deque[tuple[str, str]] = deque(maxlen=100)
        self._news = asyncio.Event()

    def earlier_now(self) -> datetime:
        """Return the time."""
        return self._clock.now()

    def asks_for(self) -> str:
        """It asks for all."""
        return "every job"

    async def connect(self) -> str:
        """Say hello."""
        await self._api.ask(lambda: None)
        return ""

    async def due_runs(self, before: datetime, known: Collection[str]) -> QueuePage:
        """Ask what waits. There is no need to ask again soon: what comes is told."""
        jobs = await self._api.ask(lambda: self._api.waiting(before))
        self._page = uuid.uuid4().hex
        now = self._clock.monotonic()
        runs = [
            FlowRun(job.id, f"job {job.id[:4]}", "toy", job.due, now, Detail("nothing"))
            for job in jobs
            if job.id not in known
        ]
        return QueuePage(frozenset(job.id for job in jobs), tuple(runs), is_full=False, next_seconds=3600.0)

    async def near_misses(self, known: Collection[str]) -> Sequence[NearMiss]:
        """There is no setting that keeps a job away."""
        return ()

    async def parents(self, ids: Collection[str]) -> Mapping[str, str]:
        """No job creates others."""
        return {}

    def unsupported(self, run: FlowRun) -> str:
        """All of them run here."""
        assert isinstance(run.detail, Detail)
        return ""

    def nonce(self) -> str:
        """Return the page's."""
        return self._page

    def ticket(self, run: FlowRun) -> Mapping[str, object]:
        """Return something of its own, of several types."""
        return {"read_at": run.read_at_seconds, "shelf": [1, {"deep": None}], "version": "one"}

    async def claim(self, run: FlowRun, nonce: str) -> Claim:
        """Ask until there is an answer: the API knows its claims again."""
        return await self._certain(lambda: self._api.claim(run.id, nonce))

    async def claimed(self, record: Record) -> Claim:
        """Ask whose it is, when what an earlier process has sent can arrive no more."""
        assert record.ticket["version"] == "one"
        await self._clock.sleep(_LAND_SECONDS)
        owned = await self._certain(lambda: self._api.owned(record.id, record.nonce))
        return Claim.OURS if owned is not None and owned.state not in _OVER else Claim.LOST

    async def _certain(self, carry_out: Callable[[], _Value]) -> _Value:
        backoff = Backoff(0.5, 10)
        while True:
            try:
                return await self._api.ask(carry_out)
            except ApiUnreachableError:
                await self._clock.sleep(backoff.next_seconds())

    async def child(self, run: FlowRun) -> Child:
        """Ask what is to be run."""
        await self._api.ask(lambda: self._api.jobs[run.id])
        asked = {"memory_max": "64M", "runtime_max": "1h"}
        return Child(("/bin/true",), {"JOB": run.id}, Path("/"), asked, stops_itself=False)

    def launched(self, record: Record, where: str) -> None:
        """Say where."""
        self.log(record.id, f"runs as {where}")

    async def give_back(self, record: Record) -> Outcome:
        """Let it wait, if it never began."""

        def carry_out() -> Outcome:
            job = self._api.jobs.get(record.id)
            if job is not None and f"given back by {record.nonce}" in job.told and not job.owner:
                return Outcome.GIVEN_BACK
            if job is None or job.owner != record.nonce or job.state is not RunState.SUBMITTED:
                return Outcome.NOT_OURS
            job.told.append(f"given back by {record.nonce}")
            self._api.set(job, RunState.WAITING)
            return Outcome.GIVEN_BACK

        return await self._api.ask(carry_out)

    async def refuse(self, record: Record, message: str) -> Outcome:
        """Finish it."""
        return await self._tell(record, message, RunState.FINISHED)

    async def report(self, record: Record, end: End, policy: CrashPolicy) -> Outcome:
        """Tell an end, unless the job has told its own."""

        def carry_out() -> Outcome | None:
            job = self._api.owned(record.id, record.nonce)
            if job is None:
                waits = record.id in self._api.jobs and record.nonce in self._api.jobs[record.id].claims
                is_told = waits and bool(self._api.jobs[record.id].turns)
                return Outcome.RESCHEDULED if is_told else Outcome.NOT_OURS
            if job.state in _OVER:
                return Outcome.REPORTED if job.told else Outcome.NOTHING_TO_SAY
            if policy.action is CrashAction.LEAVE and job.state is not RunState.CANCELLING:
                return Outcome.NOTHING_TO_SAY
            return None

        decided = await self._api.ask(carry_out)
        if decided is not None:
            return decided
        if policy.action is CrashAction.RESCHEDULE and self._api.jobs[record.id].turns < policy.times:
            return await self._wait_again(record)
        job = self._api.jobs[record.id]
        cancelled = job.state is RunState.CANCELLING or end.cause in (Cause.CANCELLED, Cause.STOPPED)
        return await self._tell(record, sentence(end), RunState.CANCELLED if cancelled else RunState.FINISHED)

    async def epilogue(self, record: Record, end: End) -> Child | None:
        """Nothing is to run."""
        return None

    async def _wait_again(self, record: Record) -> Outcome:
        def carry_out() -> Outcome:
            job = self._api.owned(record.id, record.nonce)
            if job is not None:
                job.turns += 1
                self._api.set(job, RunState.WAITING)
            return Outcome.RESCHEDULED

        return await self._api.ask(carry_out)

    async def _tell(self, record: Record, words: str, state: RunState) -> Outcome:
        def carry_out() -> Outcome:
            job = self._api.owned(record.id, record.nonce)
            if job is None:
                return Outcome.NOT_OURS
            if job.state not in _OVER:
                job.told.append(words)
                self._api.set(job, state)
            return Outcome.REPORTED

        return await self._api.ask(carry_out)

    async def views(self, ids: Sequence[str]) -> Mapping[str, RunView]:
        """Ask for the states; there are no heartbeats."""
        jobs = await self._api.ask(lambda: {run_id: self._api.jobs.get(run_id) for run_id in ids})
        return {run_id: RunView(job.state if job else RunState.MISSING) for run_id, job in jobs.items()}

    async def send_heartbeats(self, ids: Sequence[str]) -> None:
        """Nobody may ask for it: no child of this backend sends one."""
        raise AssertionError(ids)

    async def cancel(self, flow_run_id: str) -> str:
        """Ask for an end."""

        def carry_out() -> str:
            job = self._api.jobs.get(flow_run_id)
            if job is None or job.state in _OVER:
                raise ApiRefusedError("it is over")
            self._api.set(job, RunState.CANCELLING)
            return "stopping"

        return await self._api.ask(carry_out)

    def log(self, flow_run_id: str, message: str, level: str = "INFO") -> None:
        """Queue a line."""
        self._waiting.append((flow_run_id, f"{level}: {message}" if level == "ERROR" else message))
        self._news.set()

    async def attend(self, on_work: Callable[[], None], on_change: Callable[[], None]) -> None:
        """Pass on what the API tells, and send lines."""

        def changed() -> None:
            on_work()
            on_change()

        with self._api.listening(changed):
            changed()  # what came before this agent listened
            while True:
                await self._news.wait()
                await self._send_lines()

    async def _send_lines(self) -> None:
        lines = list(self._waiting)

        def carry_out() -> None:
            for job, line in [(self._api.jobs.get(run_id), line) for run_id, line in lines]:
                if job is not None:  # nobody keeps the lines of what was deleted
                    job.lines.append(line)

        try:
            await self._api.ask(carry_out)
        except ApiUnreachableError:
            await asyncio.sleep(0.01)
            return
        self._news.clear()
        self._waiting.clear()

    def close(self) -> None:
        """There is no connection."""
