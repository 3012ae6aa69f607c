"""What the agent makes of a bus that goes wrong: it asks again, connects again, and says what does not answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from jeepney import Message, new_error

from local_agent.errors import ManagerUnreachableError
from local_agent.limits import Limits
from local_agent.systemd import ScopeRequest, ScopeStatus
from local_agent.systemd.manager import DBusScopeManager
from support.fake_bus import BUS, OWNER, STRANGER, Answer, FakeBus, but, hangs_up, member_of, refuses, silent, well

_REQUEST = ScopeRequest("flow-run-x.scope", "flowruns.slice", 1, "a test's", "", Limits(), 5.0)


@contextlib.asynccontextmanager
async def _manager(bus: FakeBus, answer_seconds: float = 30.0) -> AsyncIterator[DBusScopeManager]:
    manager = DBusScopeManager(bus.address, answer_seconds=answer_seconds)
    try:
        yield manager
    finally:
        await manager.close()


@pytest.mark.parametrize("instead", [refuses, hangs_up])
@pytest.mark.parametrize("member", ["Hello", "AddMatch", "GetNameOwner", "Subscribe"])
async def test_a_bus_that_cannot_be_reached_is_said(tmp_path: Path, instead: Answer, member: str) -> None:
    with FakeBus(tmp_path / "bus", but(member, instead)) as bus:
        async with _manager(bus) as manager:
            with pytest.raises(ManagerUnreachableError, match="cannot reach systemd"):
                await manager.reason_against(thoroughly=False)


async def test_who_waits_for_a_silent_bus_is_answered_in_time(tmp_path: Path) -> None:
    """All of them at once: none waits until those before it have given up, one after another."""
    with FakeBus(tmp_path / "bus", but("Hello", silent)) as bus:
        async with _manager(bus, answer_seconds=0.4) as manager:
            waiting = [manager.reason_against(thoroughly=True) for _ in range(50)]
            answers = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 15)
    assert {type(answer) for answer in answers} == {ManagerUnreachableError}


async def test_a_systemd_that_says_nothing_is_said(tmp_path: Path) -> None:
    with FakeBus(tmp_path / "bus", but("KillUnit", silent)) as bus:
        async with _manager(bus, answer_seconds=0.4) as manager:
            with pytest.raises(ManagerUnreachableError, match="did not answer KillUnit"):
                await manager.kill("x.scope", 15)


async def test_the_end_of_a_job_is_believed_from_systemd_alone(tmp_path: Path) -> None:
    with FakeBus(tmp_path / "bus") as bus:
        async with _manager(bus) as manager:
            starting = asyncio.create_task(manager.start_scope(_REQUEST))
            await asyncio.to_thread(bus.wait_for, "StartTransientUnit")
            bus.job_removed(STRANGER, "done")
            bus.job_removed(OWNER, "failed")
            with pytest.raises(ManagerUnreachableError, match="ended as 'failed'"):
                await starting


async def test_systemd_is_known_again_after_it_has_executed_itself_anew(tmp_path: Path) -> None:
    with FakeBus(tmp_path / "bus") as bus:
        async with _manager(bus) as manager:
            starting = asyncio.create_task(manager.start_scope(_REQUEST))
            await asyncio.to_thread(bus.wait_for, "StartTransientUnit")
            bus.owner_changed(":1.9")
            bus.job_removed(":1.9", "done")
            await starting


@pytest.mark.parametrize("member", ["GetNameOwner", "Get"])
async def test_systemd_is_asked_again_once_it_is_back(tmp_path: Path, member: str) -> None:
    asked: list[Message] = []

    def away_at_first(call: Message) -> Message:
        asked.append(call)
        return new_error(call, f"{BUS}.Error.NameHasNoOwner", "s", ("away",)) if len(asked) < 3 else well(call)

    with FakeBus(tmp_path / "bus", but(member, away_at_first)) as bus:
        async with _manager(bus) as manager:
            assert await manager.reason_against(thoroughly=True) == ""
    assert len(asked) >= 3


async def test_after_a_restart_of_the_bus_a_new_connection_is_made(tmp_path: Path) -> None:
    with FakeBus(tmp_path / "bus") as bus:
        async with _manager(bus) as manager:
            assert await manager.status("x.scope") == ScopeStatus("running", "running")
            await asyncio.to_thread(bus.stop)
            with pytest.raises(ManagerUnreachableError):
                await manager.status("x.scope")
            bus.start()
            assert await manager.status("x.scope") == ScopeStatus("running", "running")


async def test_a_job_goes_on_while_the_bus_is_restarted(tmp_path: Path) -> None:
    """Its end was told to nobody: it is over once there is no such job."""
    gone: Answer = lambda call: new_error(call, f"{BUS}.Error.UnknownObject", "s", ("gone",))  # noqa: E731
    with FakeBus(tmp_path / "bus") as bus:
        async with _manager(bus) as manager:
            starting = asyncio.create_task(manager.start_scope(_REQUEST))
            await asyncio.to_thread(bus.wait_for, "Get")  # it goes on, says systemd
            bus.answer = but("Get", gone)
            bus.hang_up()
            await starting


async def test_limits_reach_the_scope(tmp_path: Path) -> None:
    limits = Limits(tasks_max=7, memory_max_bytes=1 << 30, nice=5)
    with FakeBus(tmp_path / "bus") as bus:
        async with _manager(bus) as manager:
            starting = asyncio.create_task(manager.start_scope(replace(_REQUEST, limits=limits, description="a\nb")))
            await asyncio.to_thread(bus.wait_for, "StartTransientUnit")
            bus.job_removed(OWNER, "done")
            await starting
    (start,) = [call for call in bus.called if member_of(call) == "StartTransientUnit"]
    unit, mode, properties, _ = start.body
    assert (unit, mode) == ("flow-run-x.scope", "fail")
    assert dict(properties) | {"TasksMax": ("t", 7), "MemoryMax": ("t", 1 << 30)} == dict(properties)
    assert dict(properties)["MemorySwapMax"] == ("t", 0)
    assert dict(properties)["PIDs"] == ("au", [1])
    assert dict(properties)["Description"] == ("s", "a?b")
