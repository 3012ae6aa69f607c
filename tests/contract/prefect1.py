"""Prefect 1: the embedded API in another process, behind a proxy that goes wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from api.agent.bed import Bed, backend_bed
from contract.side import Fault, Side
from local_agent.backends.prefect1 import states
from local_agent.model import RunState
from support.api import Api
from support.faults import Exchange, FaultyProxy, passed_on


class Prefect1:
    """Fulfils `Side` for a bed."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._api = bed.api
        self.backend = bed.backend
        self.clock = bed.clock

    def create(self) -> str:
        """Create a flow run with the agent's label."""
        (run,) = self._bed.create()
        self.clock.advance(1)
        return run

    def state(self, flow_run_id: str) -> RunState:
        """Translate the API's name of it."""
        if self._api.states_of([flow_run_id]) == {}:
            return RunState.MISSING
        return states.meaning_of(self._api.state(flow_run_id))

    def nonces(self, flow_run_id: str) -> Sequence[str]:
        """Read them in the Submitted states."""
        return self._bed.nonces(flow_run_id)

    def begin(self, flow_run_id: str) -> None:
        """Set Running."""
        self._api.set_state(flow_run_id, "Running")

    def finish(self, flow_run_id: str) -> None:
        """Set Success."""
        self._api.set_state(flow_run_id, "Success")

    def take(self, flow_run_id: str) -> None:
        """Set Submitted with another nonce."""
        now = self._api.states(flow_run_id)[-1]
        self._api.set_state(flow_run_id, states.submitted(now, "of another agent"))

    def cancel(self, flow_run_id: str) -> None:
        """Cancel it as the user interface does."""
        self._api.cancel(flow_run_id)

    def delete(self, flow_run_id: str) -> None:
        """Delete it."""
        self._api.delete_flow_run(flow_run_id)

    def lines(self, flow_run_id: str) -> Sequence[str]:
        """Read its messages."""
        return self._api.messages(flow_run_id)

    @property
    def requests(self) -> int:
        """Ask the proxy."""
        return self._bed.proxy.requests

    @contextmanager
    def spoil(self, number: int, fault: Fault) -> Iterator[None]:
        """Let a rule of the proxy count."""
        seen = 0

        def spoilt(exchange: Exchange) -> tuple[int, str, bytes] | None:
            nonlocal seen
            seen += 1
            if seen != number + 1:
                return passed_on(exchange)
            if fault is Fault.LOST:
                passed_on(exchange)
            return None

        self._bed.proxy.add(spoilt)
        try:
            yield
        finally:
            self._bed.proxy.clear()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let the proxy hang up on each request."""
        self._bed.proxy.refuse()
        try:
            yield
        finally:
            self._bed.proxy.clear()


@asynccontextmanager
async def prefect1(api: Api) -> AsyncIterator[Side]:
    """Connect a backend to the API through a proxy."""
    with FaultyProxy(api.url) as proxy:
        async with backend_bed(api, proxy) as bed:
            yield Prefect1(bed)
