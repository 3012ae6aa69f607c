"""The backend in this process, an embedded API in another, and something in between that goes wrong."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from local_agent.backends.prefect1 import Prefect1Backend, Transport, states
from local_agent.backends.prefect1.detail import detail_of, ticket_for
from local_agent.model import FlowRun, Record
from local_agent.settings import Settings
from support import samples
from support.api import Api
from support.clock import SkippingClock
from support.faults import Exchange, FaultyProxy

CLAIM = "set_flow_run_states"
READ_OF_A_CLAIM = "recent: states"
READ_OF_AN_END = 'task_runs(where: { state: { _in: ["Running"'
TIMEOUT_SECONDS = 30.0


@dataclass
class Bed:
    """One agent's backend, connected; its clock's sleeps take no time."""

    api: Api
    proxy: FaultyProxy
    backend: Prefect1Backend
    clock: SkippingClock
    settings: Settings

    @property
    def label(self) -> str:
        """The label of this agent alone."""
        return self.settings.labels[0]

    def create(self, count: int = 1, **more: Any) -> list[str]:  # noqa: ANN401 - as create_flow takes them
        """Create runs that only this agent gets."""
        flow = self.api.create_flow(uuid.uuid4().hex, labels=[self.label], **more)
        return self.api.create_flow_runs(flow, count)

    async def due(self) -> dict[str, FlowRun]:
        """Ask for what is due, by id."""
        page = await self.backend.due_runs(self.clock.now() + timedelta(seconds=10), ())
        assert page.problems == ()
        return {run.id: run for run in page.runs}

    async def new_run(self, **more: Any) -> FlowRun:  # noqa: ANN401 - as above
        """Create a run and return it as the queue hands it out."""
        (run_id,) = self.create(**more)
        return (await self.due())[run_id]

    async def claimed_run(self, nonce: str = samples.NONCE, **more: Any) -> tuple[FlowRun, Record]:  # noqa: ANN401
        """Create a run, claim it, and return it with its record."""
        run = await self.new_run(**more)
        claim = await self.backend.claim(run, nonce)
        assert claim.value == "ours"
        return run, self.record_of(run, nonce)

    def record_of(self, run: FlowRun, nonce: str = samples.NONCE) -> Record:
        """Return what the disk would know of a run that was claimed now."""
        return replace(
            samples.record(),
            id=run.id,
            nonce=nonce,
            due=run.due,
            claimed_at=self.clock.now(),
            ticket=ticket_for(run).as_json(),
        )

    def nonces(self, run_id: str) -> list[str]:
        """Return the nonces of all claims that a run has had."""
        return [states.nonce_of(state) for state in self.api.states(run_id) if state["type"] == "Submitted"]

    def meanwhile(self, seconds: float, action: Callable[[], Awaitable[object]]) -> None:
        """Do something once, when the backend next sleeps for so many seconds."""

        async def on_sleep(slept: float) -> None:
            if slept == seconds:
                self.clock.on_sleep = None
                await action()

        self.clock.on_sleep = on_sleep


@asynccontextmanager
async def backend_bed(api: Api, proxy: FaultyProxy, **given: Any) -> AsyncIterator[Bed]:  # noqa: ANN401 - settings
    """Connect a backend to the API through the proxy; `given` are settings."""
    settings = samples.settings(
        **{
            "api": proxy.url,
            "name": f"agent-{uuid.uuid4().hex[:8]}",
            "labels": (f"label-{uuid.uuid4().hex[:8]}",),
            "hostname_label": False,
            "request_timeout_seconds": TIMEOUT_SECONDS,
            **given,
        }
    )
    clock = SkippingClock(start=datetime.now(UTC))
    key = settings.api_key.reveal() if settings.api_key else ""
    transport = Transport(
        settings.api, api_key=key, tenant_id="", timeout_seconds=settings.request_timeout_seconds, most_at_once=4
    )
    backend = Prefect1Backend(transport, lambda: settings, {}, clock)
    try:
        await backend.connect()
        yield Bed(api, proxy, backend, clock, settings)
    finally:
        backend.close()


def submitted_by_another(run: FlowRun) -> Mapping[str, Any]:
    """Return another agent's claim of a run."""
    return states.submitted(detail_of(run).state, "of another agent")


def answer_of(data: Mapping[str, Any]) -> Callable[[Exchange], tuple[int, str, bytes]]:
    """Return a fault that answers with this data in place of the API."""
    return lambda _: (200, "application/json", json.dumps({"data": data}).encode())


def after(action: Callable[[], object]) -> Callable[[Exchange], tuple[int, str, bytes]]:
    """Return a fault that does something just before a request reaches the API."""

    def fault(exchange: Exchange) -> tuple[int, str, bytes]:
        action()
        status, body = exchange.forward()
        return status, "application/json", body

    return fault


async def soon(call: Callable[[], object]) -> None:
    """Wait in a thread, so that the loop goes on meanwhile."""
    await asyncio.to_thread(call)
