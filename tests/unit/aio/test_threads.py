"""Blocking calls off the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from local_agent.aio.threads import Workers
from support.api_client import wait_until


@asynccontextmanager
async def _workers(most: int) -> AsyncIterator[Workers]:
    workers = Workers("test-worker", most)
    try:
        yield workers
    finally:
        workers.close()


def _names() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("test-worker"))


async def test_what_a_call_returns_or_raises_comes_back() -> None:
    async with _workers(1) as workers:
        assert await workers.run(lambda: 6 * 7) == 42
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
        assert await workers.run(threading.current_thread) is not threading.current_thread()


async def test_idle_threads_are_used_before_new_ones_are_made() -> None:
    async with _workers(4) as workers:
        for _ in range(10):
            await workers.run(lambda: None)
        assert len(_names()) <= 2


async def test_there_are_never_more_than_so_many() -> None:
    release = threading.Event()
    async with _workers(3) as workers:
        calls = [asyncio.create_task(workers.run(release.wait)) for _ in range(10)]
        await asyncio.sleep(0)
        assert _names() == ["test-worker-0", "test-worker-1", "test-worker-2"]
        release.set()
        assert await asyncio.gather(*calls) == [True] * 10


async def test_who_gives_up_holds_up_nobody() -> None:
    release, began = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def call() -> None:
        loop.call_soon_threadsafe(began.set)
        release.wait()

    async with _workers(1) as workers:
        given_up = asyncio.create_task(workers.run(call))
        await began.wait()
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        release.set()
        assert await workers.run(lambda: "next") == "next"


def test_a_call_that_outlives_its_loop_harms_nobody() -> None:
    release = threading.Event()
    workers = Workers("test-worker", 1)

    async def leave_one_behind() -> None:
        task = asyncio.create_task(workers.run(release.wait))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave_one_behind())
    workers.close()
    release.set()
    wait_until(lambda: not _names(), lambda: f"still there: {_names()}")


async def test_after_the_close_no_thread_stays() -> None:
    async with _workers(2) as workers:
        await asyncio.gather(*(workers.run(lambda: None) for _ in range(4)))
    await asyncio.to_thread(wait_until, lambda: not _names(), lambda: f"still there: {_names()}")
