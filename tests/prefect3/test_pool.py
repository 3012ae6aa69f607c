"""A work pool of a real server: what its queues hand out, how its worker is seen, what its flow runs show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from local_agent.backends.prefect3.backend import Prefect3Backend
from local_agent.backends.prefect3.pool import worker_name
from local_agent.errors import ApiRefusedError, ConfigError
from local_agent.model import Claim, Outcome, RunState
from prefect3.bed import Bed, claimed, due
from support.prefect3_server import now, wait_until


async def test_runs_come_by_the_priority_of_their_queue(bed: Bed) -> None:
    for priority, queue in ((2, "high"), (3, "low")):
        bed.server.ask("POST", f"/work_pools/{bed.name}/queues", {"name": queue, "priority": priority})
    low = bed.server.create_deployment("low", pool=bed.name, queue="low")
    high = bed.server.create_deployment("high", pool=bed.name, queue="high")
    later, sooner = bed.server.create_run(low), bed.server.create_run(high)
    async with bed.agent() as agent, bed.agent("of one", queues=["low"]) as of_one:
        runs = await due(agent)
        assert [run_id for run_id in runs if run_id in (later, sooner)] == [sooner, later]
        assert runs[sooner].flow_name == "high"
        assert set(await due(of_one)) == {later}
        assert of_one.asks_for() == f"work pool {bed.name}, queues low"


async def test_no_run_comes_long_before_it_is_due(bed: Bed) -> None:
    soon = bed.run(due=now() + timedelta(seconds=8))
    later = bed.run(due=now() + timedelta(minutes=5))
    async with bed.agent() as agent:
        runs = await due(agent)
        assert soon in runs
        assert later not in runs
        assert abs(runs[soon].due - now()) < timedelta(seconds=60)
        assert not (await agent.due_runs(now() + timedelta(seconds=10), [soon])).runs, "known ones are left out"


async def test_what_is_paused_after_a_page_is_not_claimed(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        run = (await due(agent))[run_id]
        bed.server.ask("PATCH", f"/work_pools/{bed.name}", {"is_paused": True})
        await asyncio.sleep(1.1)  # the page is old by then
        assert await agent.claim(run, agent.nonce()) is Claim.LOST
        assert not (await agent.due_runs(now(), ())).ids
        bed.server.ask("PATCH", f"/work_pools/{bed.name}", {"is_paused": False})
        assert await agent.claim((await due(agent))[run_id], agent.nonce()) is Claim.OURS


async def test_a_pools_limit_is_heeded(bed: Bed) -> None:
    bed.server.ask("PATCH", f"/work_pools/{bed.name}", {"concurrency_limit": 1})
    first, second = bed.run(), bed.run()
    async with bed.agent() as agent:
        runs = await due(agent)
        assert len(runs) == 1
        await claimed(agent, next(iter(runs)))
        assert not (await agent.due_runs(now(), ())).ids
    assert {first, second} > set(runs)


async def test_a_retry_of_a_living_process_is_not_handed_out(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent:
        await claimed(agent, run_id)
        bed.server.set_state(run_id, "RUNNING")
        bed.server.ask("PATCH", f"/flow_runs/{run_id}", {"empirical_policy": {"retries": 3, "retry_delay": 0}})
        assert bed.server.set_state(run_id, "FAILED")["state"]["name"] == "AwaitingRetry"
        assert not (await agent.due_runs(now() + timedelta(seconds=10), ())).runs


async def test_a_pool_of_another_type_is_refused(bed: Bed) -> None:
    with Bed(bed.server, f"{bed.name}-docker", "docker") as foreign:
        async with foreign.agent(connects=False) as agent:
            with pytest.raises(ConfigError, match="is of the type docker"):
                await agent.connect()


async def test_a_pool_that_goes_is_said_and_its_queue_too(bed: Bed) -> None:
    async with bed.agent(queues=["nowhere"]) as agent:
        with pytest.raises(ApiRefusedError, match="nowhere"):
            await agent.due_runs(now(), ())
        bed.server.ask("DELETE", f"/work_pools/{bed.name}")
        with pytest.raises(ApiRefusedError):
            await agent.due_runs(now(), ())
        with pytest.raises(ApiRefusedError, match=f"has no work pool {bed.name}"):
            await agent.connect()


async def test_a_worker_is_online_until_it_stops(bed: Bed) -> None:
    name = worker_name("prod/1 é 50% <b>&?#", "host1")
    async with bed.agent(name) as agent:
        assert bed.server.workers(bed.name) == {name: "ONLINE"}
        async with _attended(agent):
            pass
        assert bed.server.workers(bed.name) == {}


async def test_a_run_shows_its_agents_lines_and_where_it_runs(bed: Bed) -> None:
    run_id = bed.run()
    async with bed.agent() as agent, _attended(agent):
        record = await claimed(agent, run_id)
        agent.log(run_id, "Submitted for execution: flow-run.scope")
        agent.log(run_id, "Killed by the kernel: out of memory", "ERROR")
        agent.launched(record, "flow-run.scope, PID 7")
        lines = await _seen(lambda: bed.server.logs(run_id))
        assert sorted(lines) == ["Killed by the kernel: out of memory", "Submitted for execution: flow-run.scope"]
        where = await _seen(lambda: bed.server.run(run_id)["infrastructure_pid"])
        assert where == "local-agent@host1:flow-run.scope, PID 7"
        labels = await _seen(lambda: "prefect.worker.name" in bed.server.run(run_id)["labels"])
        assert labels
        assert await agent.give_back(record) is Outcome.GIVEN_BACK
        assert not bed.server.run(run_id)["infrastructure_pid"]
        assert bed.server.set_state(run_id, "CANCELLING")["state"]["type"] == "CANCELLED", (
            "nothing has to be waited for"
        )


async def test_live_runs_are_seen_in_one_request_and_one_that_is_gone_is_missing(bed: Bed) -> None:
    running, gone, cancelled = bed.run(), bed.run(), bed.run()
    async with bed.agent() as agent:
        for run_id in (running, gone, cancelled):
            await claimed(agent, run_id)
        bed.server.set_state(running, "RUNNING")
        bed.server.ask("DELETE", f"/flow_runs/{gone}")
        assert await agent.cancel(cancelled) == "Cancelling"
        with pytest.raises(ApiRefusedError):
            await agent.cancel(gone)
        bed.proxy.reset_counters()
        views = await agent.views([running, gone, cancelled])
        assert bed.proxy.requests == 1
    states = {run_id: view.state for run_id, view in views.items()}
    assert states == {running: RunState.RUNNING, gone: RunState.MISSING, cancelled: RunState.CANCELLING}


async def test_a_run_knows_the_run_that_has_created_it(bed: Bed) -> None:
    parent = bed.run()
    task = {"flow_run_id": parent, "task_key": "t", "dynamic_key": "0", "state": {"type": "RUNNING"}}
    task_run = bed.server.ask("POST", "/task_runs/", task)["id"]
    child, other = bed.run(parent_task_run_id=task_run), bed.run()
    async with bed.agent() as agent:
        assert await agent.parents([child, other]) == {child: parent}


@asynccontextmanager
async def _attended(agent: Prefect3Backend) -> AsyncIterator[None]:
    attending = asyncio.create_task(agent.attend(lambda: None, lambda: None))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)


async def _seen(look: Callable[[], Any]) -> Any:  # noqa: ANN401 - as look
    """Look without holding up the loop, and return what there is to be seen."""
    return await asyncio.to_thread(lambda: wait_until(look, lambda: "nothing came"))
