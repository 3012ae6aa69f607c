"""What the agent needs of an API that hands out flow runs.

One class per API fulfils `Backend`. All the agent's decisions rest on what these methods promise, so a new backend
is a new folder beside `prefect1` and nothing else changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from local_agent.model import Child, Claim, CrashPolicy, End, FlowRun, Outcome, Record, RunView


@dataclass(frozen=True, slots=True)
class QueuePage:
    """One page of the queue: all ids on it, the runs that were not known yet, and whether more may be behind it."""

    ids: frozenset[str]
    runs: tuple[FlowRun, ...]
    is_full: bool
    problems: tuple[str, ...] = ()  # runs whose answer could not be understood, in words


class Backend(Protocol):
    """An API that flow runs come from.

    Every method may raise ApiUnreachableError (no answer: what was asked may have been done) and CredentialError;
    where it says "certain" it does not return before it knows.
    """

    async def connect(self) -> str:
        """Make this agent known to the API. To be called again after an outage is harmless.

        Return what was chosen here because nobody had said it, as a sentence for the administrator; usually nothing.
        """

    @property
    def clock_ahead_seconds(self) -> float | None:
        """How far this machine's clock is ahead of the API's, None where nothing is known of that one."""

    @property
    def trouble(self) -> str:
        """What has kept this agent from claiming runs or telling their ends lately, although the queue answers."""

    def earlier_now(self) -> datetime:
        """Return the time by which runs are due: this machine's, or the API's where this one is far ahead of it."""

    async def due_runs(self, before: datetime, known: Collection[str]) -> QueuePage:
        """Return what the queue holds for this agent's labels and starts before `before`, less what is `known`."""

    async def due_with_label(self, label: str, known: Collection[str]) -> tuple[FlowRun, ...]:
        """Return due runs, less what is `known`, that an agent with this one label more would get."""

    async def parents(self, ids: Collection[str]) -> Mapping[str, str]:
        """Return, for those of these runs that a task of another flow run has created, the id of that flow run."""

    def unsupported(self, run: FlowRun) -> str:
        """Return why this agent can never run it, as a sentence; "" where it can."""

    def child(self, run: FlowRun) -> Child:
        """Return the command that runs it.

        Raise LaunchError where its own settings make that impossible, StateError where this machine does.
        """

    async def claim(self, run: FlowRun, nonce: str) -> Claim:
        """Take a run for this agent. The answer is certain; it never raises for a lost answer."""

    async def claimed(self, record: Record) -> Claim:
        """Return what came of a claim that an earlier life of this agent may have sent. Certain."""

    async def give_back(self, record: Record) -> Outcome:
        """Make a claimed run whose gate never opened wait again, unless somebody else has it by now. Certain."""

    async def refuse(self, record: Record, message: str) -> Outcome:
        """Fail a claimed run that can never be launched, saying why."""

    async def report(self, record: Record, end: End, policy: CrashPolicy) -> Outcome:
        """Tell the API of an end that it does not know of. Certain; raises only while the API is out of reach."""

    async def views(self, ids: Sequence[str]) -> Mapping[str, RunView]:
        """Return how live runs stand now, in one request."""

    async def send_heartbeats(self, ids: Sequence[str]) -> None:
        """Tell the API that these runs live, in one request."""

    async def cancel(self, flow_run_id: str) -> str:
        """Ask the API to cancel a run, and return its state then, in the API's own word.

        Raise ApiRefusedError where it refuses. The run's own process learns of it from the API, or else the agent does.
        """

    def log(self, flow_run_id: str, message: str, level: str = "INFO") -> None:
        """Queue a line for the run's log at the API. It goes out with the next batch, or is lost with the agent."""

    async def flush_logs(self) -> None:
        """Send queued log lines for as long as the agent lives."""

    def close(self) -> None:
        """Close every connection."""
