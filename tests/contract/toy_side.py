"""The toy API as the suite drives it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from contract.side import Fault, Side
from contract.toy import Api, Job, ToyBackend
from local_agent.model import Claim, RunState
from support.clock import SkippingClock


class Toy:
    """Fulfils `Side`."""

    def __init__(self) -> None:
        self.api = Api()
        self.clock = SkippingClock()
        self.backend = ToyBackend(self.api, self.clock)

    def create(self) -> str:
        """Add a job."""
        job = Job(str(uuid.uuid4()), self.clock.now())
        self.api.jobs[job.id] = job
        self.api.set(job, RunState.WAITING)
        return job.id

    def state(self, flow_run_id: str) -> RunState:
        """Look."""
        job = self.api.jobs.get(flow_run_id)
        return job.state if job else RunState.MISSING

    def nonces(self, flow_run_id: str) -> Sequence[str]:
        """Look."""
        return self.api.jobs[flow_run_id].claims

    def begin(self, flow_run_id: str) -> None:
        """The job begins."""
        self.api.set(self.api.jobs[flow_run_id], RunState.RUNNING)

    def finish(self, flow_run_id: str) -> None:
        """The job ends well."""
        self.api.set(self.api.jobs[flow_run_id], RunState.FINISHED)

    def take(self, flow_run_id: str) -> None:
        """Another agent is first."""
        assert self.api.claim(flow_run_id, "of another agent") is Claim.OURS

    def cancel(self, flow_run_id: str) -> None:
        """Somebody wants it to end."""
        self.api.set(self.api.jobs[flow_run_id], RunState.CANCELLING)

    def delete(self, flow_run_id: str) -> None:
        """Somebody deletes it."""
        self.api.set(self.api.jobs.pop(flow_run_id), RunState.MISSING)

    def lines(self, flow_run_id: str) -> Sequence[str]:
        """Look."""
        return self.api.jobs[flow_run_id].lines

    @property
    def requests(self) -> int:
        """Look."""
        return self.api.requests

    @property
    def polls(self) -> int:
        """Look."""
        return self.api.polls

    @contextmanager
    def spoil(self, number: int, fault: Fault) -> Iterator[None]:
        """Spoil one."""
        self.api.spoilt = (self.api.requests + number, fault)
        try:
            yield
        finally:
            self.api.spoilt = None

    @contextmanager
    def away(self) -> Iterator[None]:
        """Be away."""
        self.api.is_away = True
        try:
            yield
        finally:
            self.api.is_away = False


@asynccontextmanager
async def toy() -> AsyncIterator[Side]:
    """Make an API with a backend."""
    side = Toy()
    await side.backend.connect()
    yield side
