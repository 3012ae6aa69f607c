"""What the suite needs of a kind of API: its backend, the API behind it, and what goes wrong between the two.

To add a kind: fulfil `Side`, and add a line to `SIDES` in conftest.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from enum import Enum
from typing import Protocol

from local_agent.backends import Backend
from local_agent.model import FlowRun, Record, RunState, Step
from support import samples
from support.clock import SkippingClock


class Fault(Enum):
    """What becomes of a request."""

    LOST = "carried out, and its answer is lost"
    REFUSED = "not carried out, and there is no answer"


class Side(Protocol):
    """A connected backend whose clock's sleeps take no time, and its API as everybody else sees and uses it."""

    @property
    def backend(self) -> Backend:
        """The agent's end of it."""

    @property
    def clock(self) -> SkippingClock:
        """The clock that it was given."""

    def create(self) -> str:
        """Let a flow run be due for this agent, and return its id."""

    def state(self, flow_run_id: str) -> RunState:
        """Return what the API shows."""

    def nonces(self, flow_run_id: str) -> Sequence[str]:
        """Return the claims that the API has taken in, the oldest first."""

    def begin(self, flow_run_id: str) -> None:
        """Let a claimed run's own process tell the API that it runs."""

    def finish(self, flow_run_id: str) -> None:
        """Let a run's own process tell the API that it has ended well."""

    def take(self, flow_run_id: str) -> None:
        """Let another agent claim a run."""

    def cancel(self, flow_run_id: str) -> None:
        """Let somebody cancel a run."""

    def delete(self, flow_run_id: str) -> None:
        """Let somebody delete a run."""

    def lines(self, flow_run_id: str) -> Sequence[str]:
        """Return the run's log at the API."""

    @property
    def requests(self) -> int:
        """How many requests came."""

    def spoil(self, number: int, fault: Fault) -> AbstractContextManager[None]:
        """Let something become of one request that comes in the context: 0 is the first one."""

    def away(self) -> AbstractContextManager[None]:
        """Let the API answer to nothing for the length of the context."""


Made = Callable[[], AbstractAsyncContextManager[Side]]


async def due(side: Side, flow_run_id: str) -> FlowRun:
    """Return a run as the queue hands it out."""
    page = await side.backend.due_runs(side.clock.now(), ())
    assert page.problems == ()
    return next(run for run in page.runs if run.id == flow_run_id)


def record_of(side: Side, run: FlowRun, nonce: str) -> Record:
    """Return what the disk knows of a run when its claim is about to be sent."""
    return Record(
        id=run.id,
        name=run.name,
        flow_name=run.flow_name,
        nonce=nonce,
        step=Step.CLAIMING,
        boot_id=samples.record().boot_id,
        due=run.due,
        claimed_at=side.clock.now(),
        backend=side.backend.name,
        ticket=side.backend.ticket(run),
    )
