"""What the agent needs of an API that hands out flow runs, and which kinds of API there are.

`Backend` is split by who asks: the agent's loop a `RunQueue`, the story of one flow run `Claims`, the watch over what
lives `LiveRuns`. All the agent's decisions rest on what these methods promise. A new kind of API is a folder beside
`prefect1` with a class that fulfils `Backend`, and a line in `KINDS`, the only place that knows the kinds.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from local_agent.errors import LocalAgentError

if TYPE_CHECKING:
    from datetime import datetime

    from local_agent.aio.clock import Clock
    from local_agent.model import Child, Claim, CrashPolicy, End, FlowRun, Outcome, Record, RunView
    from local_agent.settings import Settings

# told of each request: how many seconds it took, and what it raised
Observe = Callable[[float, LocalAgentError | None], None]


@dataclass(frozen=True, slots=True)
class QueuePage:
    """One page of the queue: all ids on it, and the runs that were not known yet, in the order to take them in."""

    ids: frozenset[str]
    runs: tuple[FlowRun, ...]
    is_full: bool  # more may be behind it
    next_seconds: float | None = None  # ask again after so long; None: in the agent's own rhythm
    problems: tuple[str, ...] = ()  # runs whose answer could not be understood, in words


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A due run that this agent would get with one setting more, and which, as a sentence that begins with "it"."""

    run: FlowRun
    reason: str


class ApiTime(Protocol):
    """By whose clock flow runs are due."""

    @property
    def clock_ahead_seconds(self) -> float | None:
        """How far this machine's clock is ahead of the API's, None where nothing is known of that one."""

    def earlier_now(self) -> datetime:
        """Return the time by which runs are due: this machine's, or the API's where this one is far ahead of it."""


class RunLog(Protocol):
    """The logs of flow runs at the API."""

    def log(self, flow_run_id: str, message: str, level: str = "INFO") -> None:
        """Queue a line for the run's log. It goes out with the next batch, or is lost with the agent."""


class RunQueue(ApiTime, RunLog, Protocol):
    """What the agent's loop asks: which flow runs are due for this agent?"""

    @property
    def trouble(self) -> str:
        """What has kept this agent from claiming runs or telling their ends lately, although the queue answers."""

    def asks_for(self) -> str:
        """Return which runs this agent asks for, in words: "labels prod, gpu"."""

    async def connect(self) -> str:
        """Make this agent known to the API. To be called again after an outage is harmless.

        Return what was chosen here because nobody had said it, as a sentence for the administrator; usually nothing.
        Raise ConfigError where it will never work as the settings are.
        """

    async def due_runs(self, before: datetime, known: Collection[str]) -> QueuePage:
        """Return what the queue holds for this agent and starts before `before`, less what is `known`.

        `known` may be a set that every id is in but some: it is only asked whether an id is in it. Asked for nothing
        new, the API still learns that this agent is there.
        """

    async def near_misses(self, known: Collection[str]) -> Sequence[NearMiss]:
        """Return due runs, less what is `known`, that one setting more would bring here. It takes none of them."""

    async def parents(self, ids: Collection[str]) -> Mapping[str, str]:
        """Return, for those of these runs that a task of another flow run has created, the id of that flow run."""

    def unsupported(self, run: FlowRun) -> str:
        """Return why this agent can never run it, as a sentence; "" where it can."""


class Claims(ApiTime, RunLog, Protocol):
    """What the story of one flow run asks, from the claim to the report. "Certain": it returns only when it knows."""

    @property
    def name(self) -> str:
        """Its name in `KINDS`, which stands in each record."""

    def nonce(self) -> str:
        """Return what the next claim is to be known by: 32 hexadecimal digits, of this claim or of this page."""

    def ticket(self, run: FlowRun) -> Mapping[str, object]:
        """Return what goes into the record before the claim is sent, as JSON, to finish the story after a kill."""

    async def claim(self, run: FlowRun, nonce: str) -> Claim:
        """Take a run for this agent. Certain; it never raises for a lost answer."""

    async def claimed(self, record: Record) -> Claim:
        """Return what came of a claim that an earlier process of this agent may have sent. Certain."""

    async def child(self, run: FlowRun) -> Child:
        """Return the command that runs a claimed run.

        Raise LaunchError where its own settings make that impossible, StateError where this machine does: then it is
        given back, and so it is where the API does not answer.
        """

    def launched(self, record: Record, where: str) -> None:
        """Queue the news that it runs, and where, in words for people. Never holds the launch up."""

    async def give_back(self, record: Record) -> Outcome:
        """Make a claimed run whose gate never opened wait again, unless somebody else has it by now. Certain."""

    async def refuse(self, record: Record, message: str) -> Outcome:
        """Fail a claimed run that can never be launched, saying why. Certain."""

    async def report(self, record: Record, end: End, policy: CrashPolicy) -> Outcome:
        """Tell the API of an end that it does not know of; nothing of the run lives by then.

        Certain; raises only while the API is out of reach, and asked again does no harm.
        """

    async def epilogue(self, record: Record, end: End) -> Child | None:
        """Return what is to run in the flow run's own place once its end was reported; usually nothing.

        To be asked once for each report. Raises as `child` does.
        """


class LiveRuns(Protocol):
    """What the watch asks about the flow runs that live here."""

    @property
    def name(self) -> str:
        """As of `Claims`."""

    async def views(self, ids: Sequence[str]) -> Mapping[str, RunView]:
        """Return how live runs stand now, in few requests: every id, MISSING where the API says that it is gone.

        Only one whose own answer could not be understood is left out.
        """

    async def send_heartbeats(self, ids: Sequence[str]) -> None:
        """Tell the API that these runs live, as their own processes fail to: only of those that send a heartbeat."""


class Backend(RunQueue, Claims, LiveRuns, Protocol):
    """An API that flow runs come from.

    Every method but those that queue may raise ApiUnreachableError (no answer: what was asked may have been done) and
    CredentialError.
    """

    async def cancel(self, flow_run_id: str) -> str:
        """Ask the API to cancel a run, and return its state then, in the API's own word.

        Raise ApiRefusedError where it refuses. The run's own process learns of it from the API, or else the agent does.
        """

    async def attend(self, on_work: Callable[[], None], on_change: Callable[[], None]) -> None:
        """Do, for as long as the agent lives, what is to be done beside: send what is queued, tell that it lives.

        Call `on_work` when the API says that something is due, `on_change` when it says that a live run's state has
        changed: that is looked at at once. An API that tells nothing unasked never calls them, and nothing is lost
        where this fails: the agent polls and looks all the same.
        """

    def close(self) -> None:
        """Close every connection."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An agent that has asked this API for flow runs lately, and by what: labels, or the names of queues."""

    name: str
    asks_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApiView:
    """An API that answers and accepts the key. `ahead_seconds` is how far its clock is, None where it tells no time."""

    neighbours: tuple[Neighbour, ...]
    ahead_seconds: float | None


@dataclass(frozen=True, slots=True)
class Needs:
    """What the flows' interpreter must have. `why_not` says of a version of prefect why it will not do, or ""."""

    wanted: str  # "prefect 1.4.1"
    packages: tuple[str, ...]  # for pip
    why_not: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of API: how to make its backend, how doctor looks at it, what its flow runs need.

    `make` is given the settings in force, the agent's environment, a clock, and whom to tell of each request.
    `inquire` raises ApiUnreachableError, CredentialError or ApiRefusedError.
    """

    make: Callable[[Callable[[], Settings], Mapping[str, str], Clock, Observe | None], Backend]
    inquire: Callable[[Settings], Awaitable[ApiView]]
    needs: Needs


# name -> where its `Kind` is; imported when it is used
KINDS: Mapping[str, str] = {
    "prefect1": "local_agent.backends.prefect1.kind:KIND",
    "prefect3": "local_agent.backends.prefect3.kind:KIND",
}


def kind(name: str) -> Kind:
    """Return a kind of API by its name in `KINDS`."""
    module, _, attribute = KINDS[name].partition(":")
    found: Kind = getattr(importlib.import_module(module), attribute)
    return found
