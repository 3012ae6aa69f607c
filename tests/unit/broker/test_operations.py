"""What cannot be brought about on a real systemd: a process that ends just while it is enclosed."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from local_agent.broker.callers import Caller, Process
from local_agent.broker.operations import Operations
from local_agent.broker.protocol import Code, RefusedError, Request, Verb

RUN = "c0ffee00-0000-4000-8000-000000000000"


class FakeBus:
    """Stands in for the system bus; `job` is what happens in place of the job."""

    def __init__(self, version: str, job: Callable[[], str]) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.main_pid = os.getpid()
        self.service = {"ActiveState": "active", "Job": (0, "/")}
        self._version = version
        self._job = job
        self.lost = asyncio.get_running_loop().create_future()

    async def call(self, method: str, _signature: str = "", body: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        if method != "GetUnit":  # a look, which changes nothing
            self.calls.append((method, body))
        return ("/path",)

    async def get(self, _path: str, _interface: str, name: str) -> object:
        return {"Version": self._version, "MainPID": self.main_pid, **self.service}.get(name, "")

    async def run_short_job(self, method: str, _signature: str, body: tuple[Any, ...], _seconds: float) -> str:
        self.calls.append((method, body))
        return self._job()

    def close(self) -> None:
        """Nothing to close."""


class SlowBus(FakeBus):
    """One whose jobs all fail, once they are let go; `is_full` is set when there are eight."""

    def __init__(self, version: str, go: asyncio.Event) -> None:
        super().__init__(version, lambda: "failed")
        self.is_full = asyncio.Event()
        self._go = go

    async def run_short_job(self, method: str, signature: str, body: tuple[Any, ...], seconds: float) -> str:
        result = await super().run_short_job(method, signature, body, seconds)
        if len(self.calls) == 8:
            self.is_full.set()
        await self._go.wait()
        return result


def _child() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"])


async def _start(bus: FakeBus, child: subprocess.Popen[bytes]) -> RefusedError:
    own = Process(os.getpid())
    caller = Caller(own, os.getuid(), own.cgroup(), "prod1")

    async def connect() -> Any:  # noqa: ANN401 - stands in for the real one
        return bus

    request = Request(1, Verb.START, RUN, child.pid, "a test's", 5.0)
    try:
        with pytest.raises(RefusedError) as refused:
            await _proved_and_carried_out(Operations(connect), caller, request)
    finally:
        own.close()
        child.kill()
        child.wait()
    return refused.value


async def _proved_and_carried_out(operations: Operations, caller: Caller, request: Request) -> None:
    await operations.prove(caller)
    await operations.carry_out(caller, request)


async def test_a_process_that_ends_meanwhile_is_reported_and_the_scope_left_alone() -> None:
    child = _child()

    def end_it() -> str:
        child.kill()
        child.wait()
        return "done"

    bus = FakeBus("252.39-1~deb12u1", end_it)
    refusal = await _start(bus, child)
    assert refusal.code is Code.PROCESS_GONE
    assert [method for method, _ in bus.calls] == ["StartTransientUnit"], "its scope may hold a stranger: no stop"


async def test_a_process_that_is_not_moved_is_reported() -> None:
    refusal = await _start(FakeBus("257.13-1", lambda: "done"), _child())
    assert refusal.code is Code.PROCESS_GONE


async def test_who_is_not_the_main_process_is_not_answered() -> None:
    bus = FakeBus("257.13-1", lambda: "done")
    bus.main_pid = os.getppid()
    refusal = await _start(bus, _child())
    assert refusal.code is Code.NOT_ALLOWED
    assert bus.calls == []


async def test_a_job_that_fails_is_reported() -> None:
    refusal = await _start(FakeBus("257.13-1", lambda: "failed"), _child())
    assert refusal.code is Code.REFUSED
    assert "'failed'" in refusal.message


@pytest.mark.parametrize(("version", "property_"), [("252.39-1~deb12u1", "PIDs"), ("257.13-1~deb13u1", "PIDFDs")])
async def test_a_pidfd_is_passed_where_systemd_takes_it(version: str, property_: str) -> None:
    bus = FakeBus(version, lambda: "failed")
    await _start(bus, _child())
    (_, (_, _, properties, _)), *_ = bus.calls
    assert properties[0][0] == property_


async def test_a_process_is_looked_at_when_it_is_its_turn() -> None:
    """Eight are started at once. Whoever ends while it waits is not named to systemd by its pid any more."""
    go = asyncio.Event()
    bus = SlowBus("252.39-1~deb12u1", go)
    own = Process(os.getpid())
    caller = Caller(own, os.getuid(), own.cgroup(), "prod1")

    async def connect() -> Any:  # noqa: ANN401 - stands in for the real one
        return bus

    operations = Operations(connect)
    await operations.prove(caller)
    children = [_child() for _ in range(9)]
    requests = [Request(1, Verb.START, RUN, child.pid, "a test's", 5.0) for child in children]
    tasks = [asyncio.create_task(operations.carry_out(caller, request)) for request in requests]
    try:
        await bus.is_full.wait()
        children[-1].kill()
        children[-1].wait()
        go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        own.close()
        for child in children:
            child.kill()
            child.wait()
    codes = [answer.code if isinstance(answer, RefusedError) else answer for answer in answers]
    assert codes == [Code.REFUSED] * 8 + [Code.NOT_YOURS]
    assert len(bus.calls) == 8
