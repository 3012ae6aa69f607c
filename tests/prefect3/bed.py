"""A work pool of a real server, and this project's backend as its worker, with a proxy between that goes wrong."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from local_agent.aio.clock import SystemClock
from local_agent.backends.prefect3.access import Access
from local_agent.backends.prefect3.api import Api
from local_agent.backends.prefect3.backend import Asks, Prefect3Backend
from local_agent.backends.prefect3.pool import Pool
from local_agent.model import Cause, Child, CrashAction, CrashPolicy, End, FlowRun, Record, Step
from support.faults import FaultyProxy
from support.prefect3_server import LOCKED, Prefect3Server

TIMEOUT_SECONDS = 30.0  # a busy machine's server is slow, and a request sent twice would be counted twice
FAIL = CrashPolicy(CrashAction.FAIL)
KILLED = End(Cause.SIGNALLED, signal=9)
CLEAN = End(Cause.EXITED, exit_code=0)
BULK = "bulk_set_state"


class PatientProxy(FaultyProxy):
    """Asks the server again where its data file was locked for a moment: what goes wrong in a test is what it chose.

    The server says 503, 2.20 and 3.0 say 500, and nothing was done. An agent asks again, too; a test asks once.
    """

    def _forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        until = time.monotonic() + TIMEOUT_SECONDS / 2
        while True:
            status, content = super()._forward(method, path, headers, body)
            if status not in LOCKED or time.monotonic() > until:
                return status, content
            time.sleep(0.1)


class NoChildren:
    """Starts nothing."""

    async def child(self, run: FlowRun, template: object) -> Child:
        """Not to be asked for."""
        raise AssertionError(run.id)

    async def hooks(self, flow_run_id: str, template: object) -> Child | None:
        """Nothing is to run."""
        return None


class Bed:
    """A pool named `name` with one deployment, on a server that other tests use, too."""

    def __init__(self, server: Prefect3Server, name: str, kind: str = "process") -> None:
        self.server = server
        self.name = name
        self.proxy = PatientProxy(server.root)
        server.create_pool(name, kind)
        self.deployment = server.create_deployment(name, pool=name)

    def __enter__(self) -> Self:
        self.proxy.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.proxy.close()

    def access(self, **more: Any) -> Access:  # noqa: ANN401 - the Access's own
        """Return where the API is, through the proxy."""
        given = {"auth_string": self.server.auth_string, "timeout_seconds": TIMEOUT_SECONDS, **more}
        return Access(f"{self.proxy.url}/api", **given)

    @asynccontextmanager
    async def agent(
        self, worker: str = "prod1", *, queues: Sequence[str] = (), looks: str = "auto", connects: bool = True
    ) -> AsyncIterator[Prefect3Backend]:
        """Give the backend of an agent."""
        api = Api(self.access())
        asks = Asks(tuple(queues), "host1", looks, TIMEOUT_SECONDS)
        backend = Prefect3Backend(api, Pool(api, self.name, worker), NoChildren(), SystemClock(), asks)
        try:
            if connects:
                await backend.connect()
            yield backend
        finally:
            backend.close()

    def run(self, **more: Any) -> str:  # noqa: ANN401 - the server's own fields
        """Make a flow run that is due."""
        return self.server.create_run(self.deployment, **more)

    def refuse_bulk(self) -> None:
        """Be a server that cannot set the state of many runs in one request."""
        self.proxy.answer(404, BULK, body='{"detail":"Not Found"}', kind="application/json")


async def due(backend: Prefect3Backend, known: Sequence[str] = ()) -> dict[str, FlowRun]:
    """Return what is due, by id, once anything is."""
    until = asyncio.get_running_loop().time() + 60
    while True:
        page = await backend.due_runs(datetime.now(UTC) + timedelta(seconds=10), known)
        if page.runs:
            return {run.id: run for run in page.runs}
        assert asyncio.get_running_loop().time() < until, "nothing is due"
        await asyncio.sleep(0.1)


def record_of(run_id: str, nonce: str, **more: Any) -> Record:  # noqa: ANN401 - the Record's own
    """Return what the disk knows of a claim."""
    now = datetime.now(UTC)
    given = {"name": "run", "flow_name": "flow", "step": Step.RUNNING, "boot_id": "boot", "due": now, "claimed_at": now}
    return Record(id=run_id, nonce=nonce, **{**given, **more})


def new_nonce() -> str:
    """Return what a claim may be known by."""
    return uuid.uuid4().hex


async def claimed(backend: Prefect3Backend, run_id: str) -> Record:
    """Claim a run when it is due, and return its record."""
    run = (await due(backend))[run_id]
    await asyncio.sleep(max(0.0, (run.due - datetime.now(UTC)).total_seconds()))
    nonce = backend.nonce()
    claim = await backend.claim(run, nonce)
    assert claim.value == "ours", claim
    return record_of(run_id, nonce)
