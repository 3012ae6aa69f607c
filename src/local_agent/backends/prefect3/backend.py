"""A work pool of a Prefect 3 API as the agent's Backend: puts together what the other files of this folder do."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from local_agent.aio.clock import Backoff
from local_agent.backends.fields import WrongFieldError
from local_agent.backends.prefect3 import states
from local_agent.backends.prefect3.answers import is_missing
from local_agent.backends.prefect3.claims import Claims
from local_agent.backends.prefect3.ends import Ends
from local_agent.backends.prefect3.pool import HEARTBEAT_SECONDS, MAX_RUNS
from local_agent.backends.prefect3.rivals import Rivals
from local_agent.backends.prefect3.run_logs import RunLogs
from local_agent.backends.prefect3.run_queue import RunQueue
from local_agent.backends.prefect3.whereabouts import Whereabouts
from local_agent.errors import ApiRefusedError, ConfigError, CredentialError, LocalAgentError, UnavailableError
from local_agent.model import Cause, Claim, Outcome, RunState, RunView
from local_agent.plain import short

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from local_agent.aio.clock import Clock
    from local_agent.backends import NearMiss, QueuePage
    from local_agent.backends.prefect3.api import Api
    from local_agent.backends.prefect3.parse import RunFacts
    from local_agent.backends.prefect3.pool import Pool
    from local_agent.model import Child, CrashPolicy, End, FlowRun, Record

NAME = "prefect3"
_KINDS = ("process", "systemd")
# cancelled; or on a machine that goes down or has just come up, where hundreds may end at once
_NO_HOOKS = frozenset({Cause.CANCELLED, Cause.STOPPED, Cause.SERVICE_STOPPED, Cause.SHUTDOWN, Cause.POWER_LOST})
_SIGN_OFF_SECONDS = 1.0


class MakesChildren(Protocol):
    """What knows how a flow run is run."""

    async def child(self, run: FlowRun, template: Mapping[str, Any]) -> Child:
        """Return the command that runs it, given its pool's template. Raises as `Backend.child`."""

    async def hooks(self, flow_run_id: str, template: Mapping[str, Any]) -> Child | None:
        """Return what runs its on_crashed hooks, if anything does. Raises as `Backend.child`."""


@dataclass(frozen=True, slots=True)
class Asks:
    """What this agent asks a pool for: the names of its queues, none for all of them."""

    queues: tuple[str, ...] = ()
    host: str = ""
    looks: str = "auto"  # `claim_check`: whether to read a claim back: always, never, or where anybody else may claim
    timeout_seconds: float = 15.0


class Prefect3Backend:
    """Fulfils `Backend` for one work pool."""

    name = NAME

    def __init__(self, api: Api, pool: Pool, children: MakesChildren, clock: Clock, asks: Asks) -> None:
        self._api = api
        self._pool = pool
        self._children = children
        self._clock = clock
        self._asks = asks
        self._queue = RunQueue(pool, asks.queues, clock)
        rivals = Rivals(pool, clock, asks.looks)
        self._claims = Claims(pool, clock, timeout_seconds=asks.timeout_seconds, rivals=rivals)
        self._whereabouts = Whereabouts(pool, clock)
        self._ends = Ends(pool, clock, timeout_seconds=asks.timeout_seconds, take_away=self._whereabouts.take_away)
        self._logs = RunLogs(pool, clock)
        self._template: Mapping[str, Any] = {}
        self._nonce = uuid.uuid4().hex
        self._has_connected = False
        self._claimed_here: set[str] = set()  # nonce and run of each claim of this life that nobody has given back yet

    # --- the agent's loop

    @property
    def clock_ahead_seconds(self) -> float | None:
        """Nothing is known of the API's clock."""
        return None

    @property
    def trouble(self) -> str:
        """Nothing is kept back: what has no answer is asked again."""
        return ""

    def earlier_now(self) -> datetime:
        """Return this machine's time."""
        return self._clock.now()

    def asks_for(self) -> str:
        """Return which runs this agent asks for, in words."""
        queues = f", queues {', '.join(self._asks.queues)}" if self._asks.queues else ""
        return f"work pool {self._pool.name}{queues}"

    async def connect(self) -> str:
        """Read the pool and register this agent as a worker of it."""
        await self._read_pool()
        await self._pool.heartbeat()
        self._claims.connected()
        self._has_connected = True
        return ""

    async def _read_pool(self) -> None:
        with as_no_pool(self._pool.name, self._api.url):
            pool = await self._pool.read()
        if pool.kind not in _KINDS:
            raise self._foreign(pool.kind)
        self._template = pool.template

    def _foreign(self, kind: str) -> LocalAgentError:
        """Return what to raise for a pool of another type. It is no reason to stop an agent that has flow runs."""
        message = f"the work pool {self._pool.name} is of the type {kind}; this agent serves {' and '.join(_KINDS)}"
        hint = f"choose another pool, or make one: prefect work-pool create NAME --type {_KINDS[0]}"
        return ApiRefusedError(message, hint=hint) if self._has_connected else ConfigError(message, hint=hint)

    async def due_runs(self, before: datetime, known: Collection[str]) -> QueuePage:
        """Ask the queues. What comes is claimed under a nonce of its own."""
        page = await self._queue.page(before, known)
        self._nonce = uuid.uuid4().hex
        return page

    async def near_misses(self, known: Collection[str]) -> Sequence[NearMiss]:  # noqa: ARG002 - the Protocol's
        """Return nothing: no setting more would bring a run of another pool here."""
        return ()

    async def parents(self, ids: Collection[str]) -> Mapping[str, str]:
        """Return the parents of runs that a task of another has created, as `run_deployment` does."""
        return await self._pool.parents(list(ids)[:MAX_RUNS])

    def unsupported(self, run: FlowRun) -> str:  # noqa: ARG002 - the Protocol's
        """Return "": a pool's type says what runs in it."""
        return ""

    # --- one flow run

    def nonce(self) -> str:
        """Return what the claims of the newest page are known by."""
        return self._nonce

    def ticket(self, run: FlowRun) -> Mapping[str, object]:  # noqa: ARG002 - the Protocol's
        """Return nothing: a run's history tells all that is to be known."""
        return {}

    async def claim(self, run: FlowRun, nonce: str) -> Claim:
        """Take a run: table T1. One that is not handed out any more is lost; the queue brings it when it is again."""
        try:
            if not await self._queue.is_still_due(run):
                return Claim.LOST
        except (UnavailableError, CredentialError, ApiRefusedError):
            return Claim.LATER  # nothing was sent yet
        claim = await self._claims.claim(run.id, nonce)
        if claim is Claim.OURS:
            self._claimed_here.add(f"{nonce} {run.id}")
        return claim

    async def claimed(self, record: Record) -> Claim:
        """Return what came of an earlier process's claim."""
        return await self._claims.claimed(record)

    async def child(self, run: FlowRun) -> Child:
        """Return the command that runs it."""
        return await self._children.child(run, self._template)

    def launched(self, record: Record, where: str) -> None:
        """Queue the news that it runs, and where."""
        self._claimed_here.discard(f"{record.nonce} {record.id}")
        self._whereabouts.add(record.id, f"local-agent@{self._asks.host}:{where}")

    async def give_back(self, record: Record) -> Outcome:
        """Make a run wait again whose process never started."""
        key = f"{record.nonce} {record.id}"
        is_first = key in self._claimed_here
        self._claimed_here.discard(key)
        return await self._ends.give_back(record, is_first=is_first)

    async def refuse(self, record: Record, message: str) -> Outcome:
        """Crash a claimed run that can never be launched here."""
        self._claimed_here.discard(f"{record.nonce} {record.id}")
        return await self._ends.refuse(record, message)

    async def report(self, record: Record, end: End, policy: CrashPolicy) -> Outcome:
        """Tell the API of an end: table T2."""
        self._whereabouts.forget(record.id)
        return await self._ends.report(record, end, policy)

    async def epilogue(self, record: Record, end: End) -> Child | None:
        """Return what runs the on_crashed hooks of a run whose own process did not come to it."""
        return None if end.cause in _NO_HOOKS else await self._children.hooks(record.id, self._template)

    # --- what lives

    async def views(self, ids: Sequence[str]) -> Mapping[str, RunView]:
        """Return how live runs stand now; MISSING where the API does not know one any more."""
        found: dict[str, RunFacts | WrongFieldError] = {}
        for begin in range(0, len(ids), MAX_RUNS):
            found.update(await self._pool.runs(ids[begin : begin + MAX_RUNS]))
        views = {run_id: _view(found.get(run_id)) for run_id in ids}
        return {run_id: view for run_id, view in views.items() if view is not None}

    async def send_heartbeats(self, ids: Sequence[str]) -> None:
        """Send nothing: the engine of a flow run tells of itself, and no silence is made anything of."""

    async def cancel(self, flow_run_id: str) -> str:
        """Cancel a run as Prefect's own user interface does."""
        verdict = await self._pool.set_state(flow_run_id, states.cancelling())
        if verdict is None:
            raise ApiRefusedError(f"the API knows no flow run {flow_run_id}")
        if verdict.status.value == "ABORT":
            raise ApiRefusedError(f"the API refuses: {verdict.reason or f'it is {verdict.state.name}'}")
        return verdict.state.name

    def log(self, flow_run_id: str, message: str, level: str = "INFO") -> None:
        """Queue a line for the run's log."""
        self._logs.add(flow_run_id, message, level)

    async def attend(
        self,
        on_work: Callable[[], None],  # noqa: ARG002 - the Protocol's
        on_change: Callable[[], None],  # noqa: ARG002 - the Protocol's
    ) -> None:
        """Send what is queued, and be ONLINE; gone when this is cancelled. The API is not listened to."""
        loops = (self._logs.send_for_ever, self._whereabouts.tell_for_ever, self._beat_for_ever)
        try:
            async with asyncio.TaskGroup() as group:
                for loop in loops:
                    group.create_task(loop())
        finally:
            with contextlib.suppress(LocalAgentError, TimeoutError):
                async with asyncio.timeout(_SIGN_OFF_SECONDS):
                    await self._pool.sign_off()

    async def _beat_for_ever(self) -> None:
        """Tell that this worker lives, and read the pool: its template may be another one by now."""
        backoff = Backoff(1, HEARTBEAT_SECONDS)
        while True:
            await self._clock.sleep(HEARTBEAT_SECONDS)
            try:
                await self._pool.heartbeat()
                await self._read_pool()
            except LocalAgentError:
                await self._clock.sleep(backoff.next_seconds())
            else:
                backoff.reset()

    def close(self) -> None:
        """Close every connection."""
        self._api.close()


def _view(found: RunFacts | WrongFieldError | None) -> RunView | None:
    if found is None:
        return RunView(RunState.MISSING)
    return None if isinstance(found, WrongFieldError) else RunView(found.state.kind.meaning)


@contextlib.contextmanager
def as_no_pool(name: str, url: str) -> Iterator[None]:
    """Say of what the API does not know that it is this pool."""
    try:
        yield
    except ApiRefusedError as error:
        if not is_missing(error):
            raise
        raise ApiRefusedError(
            f"the API at {url} has no work pool {short(name)}",
            hint=f"make it: prefect work-pool create {short(name)} --type process; or set `pool` to one that is there",
            code=error.code,
        ) from error
