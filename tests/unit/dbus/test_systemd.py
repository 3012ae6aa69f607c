"""systemd on a bus that goes wrong: who is believed, what is left of a failure, and how long is waited."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from jeepney import DBusAddress, HeaderFields, Message, new_error, new_method_return, new_signal

from local_agent.dbus import AwayError, BusError
from local_agent.dbus.calls import manager_call
from local_agent.dbus.connection import MAX_MESSAGE_BYTES, Connection
from local_agent.dbus.systemd import LostJobError, Systemd
from support.fake_bus import BUS, OWNER, STRANGER, Answer, FakeBus, but, hangs_up, refuses, silent, well

_START: tuple[str, str, tuple[Any, ...]] = ("StartTransientUnit", "ssa(sv)a(sa(sv))", ("x.scope", "fail", [], []))
_STEPS = ["Hello", "AddMatch", "GetNameOwner", "Subscribe"]

StartJob = Callable[[Systemd], Coroutine[Any, Any, str]]


def _short(systemd: Systemd) -> Coroutine[Any, Any, str]:
    return systemd.run_short_job(*_START, seconds=30.0)


def _long(systemd: Systemd) -> Coroutine[Any, Any, str]:
    return systemd.run_job(*_START)


@contextlib.asynccontextmanager
async def _connected(bus: FakeBus, *, passes_descriptors: bool = False) -> AsyncIterator[Systemd]:
    systemd = await Systemd.connect(bus.address, passes_descriptors=passes_descriptors)
    try:
        yield systemd
    finally:
        systemd.close()


async def _called(bus: FakeBus, member: str, times: int = 1) -> None:
    await asyncio.to_thread(bus.wait_for, member, times)


def _held() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())  # noqa: PTH208 - descriptors have no paths


async def _fails(address: str, times: int, seconds: float = 30.0) -> None:
    for _ in range(times):
        with pytest.raises(BusError):
            await Systemd.connect(address, seconds)


@pytest.mark.parametrize("instead", [refuses, hangs_up])
@pytest.mark.parametrize("step", _STEPS)
async def test_a_connection_that_fails_leaves_nothing(tmp_path: Path, instead: Answer, step: str) -> None:
    with FakeBus(tmp_path / "bus", but(step, instead)) as bus:
        await asyncio.to_thread(lambda: None)  # its thread is there from here on
        before = _held()
        await _fails(bus.address, 5)
        bus.stop()
        bus.start()
        assert _held() == before


async def test_nor_do_a_thousand(tmp_path: Path) -> None:
    path = tmp_path / "bus"
    await asyncio.to_thread(lambda: None)
    before = _held()
    with FakeBus(path, but("Subscribe", refuses)) as bus:
        await _fails(bus.address, 300)
    with FakeBus(path, authenticates=b"REJECTED EXTERNAL\r\n") as bus:
        await _fails(bus.address, 300)
    with FakeBus(path, authenticates=b"OK\r\nand more\r\n") as bus:
        await _fails(bus.address, 100)
    await _fails(f"unix:path={path}", 300)  # nobody listens there any more
    assert _held() == before


@pytest.mark.parametrize("step", _STEPS)
async def test_a_bus_that_stops_answering_is_not_waited_for(tmp_path: Path, step: str) -> None:
    with FakeBus(tmp_path / "bus", but(step, silent)) as bus:
        await _fails(bus.address, 2, seconds=0.1)
        assert len(asyncio.all_tasks()) == 1


async def test_nor_is_one_that_says_nothing_at_all(tmp_path: Path) -> None:
    """The loop goes on meanwhile: whoever waits for a connection to be authenticated keeps nobody else waiting."""
    with FakeBus(tmp_path / "bus", authenticates=b"") as bus:
        connecting = asyncio.create_task(_fails(bus.address, 1, seconds=0.5))
        await asyncio.sleep(0)
        began = time.monotonic()
        await asyncio.sleep(0.01)
        assert not connecting.done()
        await connecting
        assert time.monotonic() - began < 30


async def test_a_bus_that_lets_nobody_in_is_not_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "bus")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as crowd:
        listener.bind(path)
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                one = crowd.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
                one.connect(path)
        await _fails(f"unix:path={path}", 2, seconds=0.1)


async def test_one_that_is_given_up_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    with FakeBus(tmp_path / "bus", but("Subscribe", silent)) as bus:
        await _called_off(bus, 1)
        before = _held()
        for number in range(2, 6):
            await _called_off(bus, number)
        bus.stop()
        bus.start()
        assert _held()[1] == before[1]
        assert _held()[0] <= before[0]


async def _called_off(bus: FakeBus, number: int) -> None:
    connecting = asyncio.create_task(Systemd.connect(bus.address))
    await _called(bus, "Subscribe", number)
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)


@pytest.mark.parametrize("start", [_short, _long])
async def test_the_end_of_a_job_is_believed_from_systemd_alone(tmp_path: Path, start: StartJob) -> None:
    with FakeBus(tmp_path / "bus") as bus:
        async with _connected(bus) as systemd:
            starting = asyncio.create_task(start(systemd))
            await _called(bus, "StartTransientUnit")
            bus.job_removed(STRANGER, "done")
            bus.job_removed("org.freedesktop.systemd1", "timeout")
            bus.owner_changed(STRANGER, sender=STRANGER)
            bus.job_removed(STRANGER, "skipped")
            bus.job_removed(OWNER, "failed")
            assert await starting == "failed"


async def test_while_systemd_is_away_nobody_is_believed(tmp_path: Path) -> None:
    with FakeBus(tmp_path / "bus") as bus:
        async with _connected(bus) as systemd:
            starting = asyncio.create_task(_long(systemd))
            await _called(bus, "StartTransientUnit")
            bus.owner_changed("")
            bus.job_removed("", "failed")
            bus.job_removed(OWNER, "failed")
            bus.owner_changed(":1.9")
            bus.job_removed(":1.9", "done")
            assert await starting == "done"


@pytest.mark.parametrize("start", [_short, _long])
async def test_the_end_of_a_fast_job_comes_before_its_start_is_answered(tmp_path: Path, start: StartJob) -> None:
    def answer(call: Message) -> Message:
        bus.job_removed(OWNER, "done")
        return well(call)

    with FakeBus(tmp_path / "bus", but("StartTransientUnit", answer)) as bus:
        async with _connected(bus) as systemd:
            assert await start(systemd) == "done"


@pytest.mark.parametrize("start", [_short, _long])
async def test_a_job_whose_end_was_told_to_nobody_is_gone(tmp_path: Path, start: StartJob) -> None:
    """As where PID 1 executes itself anew while it ends."""
    gone: Answer = lambda call: new_error(call, f"{BUS}.Error.UnknownObject", "s", ("gone",))  # noqa: E731
    with FakeBus(tmp_path / "bus", but("Get", gone)) as bus:
        async with _connected(bus) as systemd:
            assert await start(systemd) == "done"


async def test_a_start_that_is_late_is_taken_back(tmp_path: Path) -> None:
    with FakeBus(tmp_path / "bus") as bus:
        async with _connected(bus) as systemd:
            starting = asyncio.create_task(systemd.run_short_job(*_START, seconds=0.1))
            await _called(bus, "CancelJob")
            bus.job_removed(OWNER, "canceled")
            assert await starting == "canceled"


async def test_a_start_whose_answer_is_late_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Message] = []
    with FakeBus(tmp_path / "bus", but("StartTransientUnit", lambda call: calls.append(call))) as bus:
        async with _connected(bus) as systemd:
            monkeypatch.setattr("local_agent.dbus.systemd._SHORT_CALL_SECONDS", 0.1)
            with pytest.raises(BusError, match="not answered"):
                await _short(systemd)
            bus.send(well(calls[0]), OWNER)
            await _called(bus, "CancelJob")


async def test_a_call_that_was_not_sent_in_time_is_not_sent_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may name a process by its pid, which is a stranger's by then."""
    with FakeBus(tmp_path / "bus") as bus:
        async with _connected(bus) as systemd:
            await systemd.call("Before")
            bus.reads.clear()
            filler = [asyncio.create_task(systemd.call("Fill", "s", ("x" * 60_000,))) for _ in range(12)]
            await asyncio.sleep(0.1)
            monkeypatch.setattr("local_agent.dbus.systemd._SHORT_CALL_SECONDS", 0.1)
            with pytest.raises(BusError, match="not answered"):
                await _short(systemd)
            bus.reads.set()
            await asyncio.gather(*filler)
            await systemd.call("After")
        assert "StartTransientUnit" not in bus.members()


async def test_a_bus_that_does_not_read_takes_no_memory(tmp_path: Path) -> None:
    with FakeBus(tmp_path / "bus") as bus:
        async with _connected(bus) as systemd:
            await systemd.call("Before")
            bus.reads.clear()
            calls = [systemd.call("Fill", "s", ("x" * 60_000,)) for _ in range(100)]
            answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
            assert all(isinstance(answer, BusError) for answer in answers)
            assert systemd.lost.done()


async def test_an_answer_that_is_too_large_fails_its_call_alone(tmp_path: Path) -> None:
    large: Answer = lambda call: new_method_return(call, "ay", (b"x" * MAX_MESSAGE_BYTES,))  # noqa: E731
    with FakeBus(tmp_path / "bus", but("Large", large)) as bus:
        async with _connected(bus) as systemd:
            with pytest.raises(BusError, match="too large"):
                await systemd.call("Large")
            assert await systemd.get("/x", "Unit", "ActiveState") == "running"


async def test_a_stranger_with_large_signals_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Any user can send 32 MiB, and a list of numbers takes ten times that and seconds to become one of Python's."""
    with FakeBus(tmp_path / "bus") as bus:
        async with _connected(bus) as systemd:
            starting = asyncio.create_task(_long(systemd))
            await _called(bus, "StartTransientUnit")
            await asyncio.to_thread(bus.send_bytes, _numbers(8 << 20))
            bus.job_removed(OWNER, "done")
            began = time.process_time()
            assert await starting == "done"
            assert time.process_time() - began < 1, "it was read"


def _numbers(size: int) -> bytes:
    """Return a signal of a stranger's, a list of numbers of two bytes each."""
    signal = new_signal(DBusAddress("/x", interface="x.y"), "JobRemoved", "ay", (b"x" * size,))
    signal.header.fields[HeaderFields.sender] = STRANGER
    data: bytes = signal.serialise(serial=9)
    return data.replace(b"\x02ay\x00", b"\x02aq\x00", 1)


@pytest.mark.parametrize("start", [_short, _long])
async def test_a_bus_that_is_restarted_ends_what_is_waited_for(tmp_path: Path, start: StartJob) -> None:
    with FakeBus(tmp_path / "bus", but("Never", silent)) as bus:
        async with _connected(bus) as systemd:
            starting = asyncio.create_task(start(systemd))
            asking = asyncio.create_task(systemd.call("Never"))
            await _called(bus, "Never")
            await asyncio.to_thread(bus.stop)
            with pytest.raises(LostJobError) as lost:
                await starting
            with pytest.raises(BusError, match="hung up"):
                await asking
            assert lost.value.path.endswith("/job/7")
            assert systemd.lost.done()
            with pytest.raises(BusError, match="hung up"):
                await systemd.call("Again")
        bus.start()


async def test_who_has_left_the_bus_may_be_asked_again(tmp_path: Path) -> None:
    away: Answer = lambda call: new_error(call, f"{BUS}.Error.NameHasNoOwner", "s", ("away",))  # noqa: E731
    with FakeBus(tmp_path / "bus", but("Get", away)) as bus:
        async with _connected(bus) as systemd:
            with pytest.raises(AwayError):
                await systemd.get("/x", "Unit", "ActiveState")
            assert not systemd.lost.done()


def test_a_descriptor_that_waits_to_be_sent_stays_the_file_that_it_was(tmp_path: Path) -> None:
    """Its number may be another file's by then: the caller does not wait for ever, and closes it."""
    path = str(tmp_path / "bus")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as closing:
        listener.bind(path)
        listener.listen()
        client = Connection(f"unix:path={path}", passes_descriptors=True)
        closing.callback(client.close)
        assert client.connect()
        bus = closing.enter_context(listener.accept()[0])
        for answer in (b"OK 1234deadbeef\r\n", b"AGREE_UNIX_FD\r\n"):
            bus.recv(1024)
            bus.sendall(answer)
            client.receive()
        assert client.is_ready
        while not client.wants_to_write:
            client.send(manager_call("Fill", "s", ("x" * 60_000,)))
        mine = os.memfd_create("mine")
        client.send(manager_call("Pass", "h", (mine,)))
        os.close(mine)
        another = os.memfd_create("another")
        closing.callback(os.close, another)
        assert another == mine
        received = _received(bus, client)
        closing.callback(os.close, received)
        assert "mine" in os.readlink(f"/proc/self/fd/{received}")  # noqa: PTH115 - a descriptor has no path


def _received(bus: socket.socket, client: Connection) -> int:
    """Read all that a client has to send, and return the descriptor that came with it."""
    received = array.array("i")
    bus.setblocking(False)
    for _ in range(1000):
        client.flush()
        with contextlib.suppress(BlockingIOError):
            _, ancillary, _, _ = bus.recvmsg(1 << 20, socket.CMSG_SPACE(4))
            for _, _, data in ancillary:
                received.frombytes(data)
    (only,) = received
    return only
