"""Times that are written to the API are counted by its clock, whatever this machine's and a proxy's show."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from api.agent.bed import Bed, backend_bed
from local_agent.model import Cause, Claim, CrashAction, CrashPolicy, End, Record
from support.faults import FaultyProxy
from support.samples import NONCE
from support.shifted_api import ShiftedApi

_SHIFTS = [-172_800.0, 172_800.0]
_AGAIN = CrashPolicy(CrashAction.RESCHEDULE, 1)


@pytest.fixture(scope="module", params=_SHIFTS, ids=["behind", "ahead"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShiftedApi]:
    """An API whose clock is two days off, so that this machine's is."""
    shifted = ShiftedApi(tmp_path_factory.mktemp("shifted") / "server.db")
    shifted.shift_seconds = request.param
    with shifted:
        yield shifted


@pytest.fixture(params=["an honest proxy", "a proxy with a clock of its own"])
def proxy(request: pytest.FixtureRequest, api: ShiftedApi) -> Iterator[FaultyProxy]:
    """What writes the Date."""
    with FaultyProxy(api.url) as running:
        running.ahead_seconds = 3 * 172_800.0 if "own" in request.param else api.shift_seconds
        yield running


async def _claimed(bed: Bed) -> tuple[str, Record]:
    """Claim a run, once the agent knows what time it is at the API."""
    (run_id,) = bed.create()
    later = bed.clock.now() + timedelta(days=3)
    page = await bed.backend.due_runs(later, ())
    async with asyncio.timeout(60):
        while abs(_ahead(bed) + bed.api.shift_seconds) > 10:  # type: ignore[attr-defined]  # a ShiftedApi
            await asyncio.sleep(0.5)
            page = await bed.backend.due_runs(later, ())
    (run,) = page.runs
    assert await bed.backend.claim(run, NONCE) is Claim.OURS
    return run_id, bed.record_of(run)


def _ahead(bed: Bed) -> float:
    return bed.backend.clock_ahead_seconds or 0.0


def _start_of(api: ShiftedApi, run_id: str) -> timedelta:
    """Return how long after now, by the API's clock, a run may start."""
    now = datetime.now(UTC) + timedelta(seconds=api.shift_seconds)
    state = api.states(run_id)[-1]
    assert state["type"] == "Scheduled"
    return datetime.fromisoformat(state["start_time"]) - now


async def test_a_run_that_is_given_back_waits_half_a_minute(api: ShiftedApi, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy, request_timeout_seconds=5.0) as bed:
        run, record = await _claimed(bed)
        await bed.backend.give_back(record)
        assert timedelta(seconds=20) < _start_of(api, run) < timedelta(seconds=60)


async def test_a_run_that_is_started_again_waits_half_a_minute(api: ShiftedApi, proxy: FaultyProxy) -> None:
    async with backend_bed(api, proxy, request_timeout_seconds=5.0) as bed:
        run, record = await _claimed(bed)
        api.set_state(run, "Running")
        await bed.backend.report(record, End(Cause.SIGNALLED, signal=9), _AGAIN)
        assert timedelta(seconds=20) < _start_of(api, run) < timedelta(seconds=60)
