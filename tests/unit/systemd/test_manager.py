"""systemd's manager on a bus that goes wrong: nothing is left of a connection that failed, and nobody is believed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from jeepney import DBusAddress, HeaderFields, Message, new_error, new_method_return, new_signal
from jeepney.io.asyncio import DBusConnection

from local_agent.errors import ManagerUnreachableError
from local_agent.limits import Limits
from local_agent.systemd import ScopeRequest
from local_agent.systemd.manager import DBusScopeManager
from support.api_client import wait_until

_SYSTEMD = "org.freedesktop.systemd1"
_OWNER = ":1.1"
_JOB = "/org/freedesktop/systemd1/job/7"
_REQUEST = ScopeRequest("flow-run-x.scope", "flowruns.slice", 1, "a test's", "", Limits(), 5.0)

Answer = Callable[["FakeBus", Message], Message | None]


class FakeBus:
    """A bus with systemd on it. `answer` returns what it says to a call, None for nothing."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.connection: DBusConnection | None = None
        self.called: list[str] = []
        self.has_been_called = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client until it hangs up."""
        with contextlib.suppress(EOFError, ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n")
            writer.write(b"OK 1234deadbeef\r\n")
            await reader.readuntil(b"BEGIN\r\n")
            self.connection = DBusConnection(reader, writer)
            while True:
                await self._take(await self.connection.receive())
        writer.close()

    async def _take(self, message: Message) -> None:
        member = message.header.fields[HeaderFields.member]
        self.called.append(member)
        reply = self._answer(self, message)
        if reply is not None:
            await self.send(reply, "org.freedesktop.DBus")
        if member == "StartTransientUnit":
            self.has_been_called.set()

    async def send(self, message: Message, sender: str) -> None:
        """Send a message as if it came from somebody."""
        assert self.connection is not None
        message.header.fields[HeaderFields.sender] = sender
        await self.connection.send(message)

    async def job_removed(self, sender: str, result: str) -> None:
        """Send what systemd sends at the end of a job."""
        manager = DBusAddress("/org/freedesktop/systemd1", interface=f"{_SYSTEMD}.Manager")
        await self.send(new_signal(manager, "JobRemoved", "uoss", (7, _JOB, "x.scope", result)), sender)


def _well(_: FakeBus, message: Message) -> Message | None:
    member = message.header.fields[HeaderFields.member]
    bodies = {"Hello": ("s", (":1.5",)), "GetNameOwner": ("s", (_OWNER,)), "StartTransientUnit": ("o", (_JOB,))}
    signature, body = bodies.get(member, (None, ()))
    return new_method_return(message, signature, body)


def _refuses(member: str) -> Answer:
    def answer(bus: FakeBus, message: Message) -> Message | None:
        if message.header.fields[HeaderFields.member] != member:
            return _well(bus, message)
        return new_error(message, "org.freedesktop.DBus.Error.LimitsExceeded", "s", ("no more",))

    return answer


def _hangs_up(member: str) -> Answer:
    def answer(bus: FakeBus, message: Message) -> Message | None:
        if message.header.fields[HeaderFields.member] != member:
            return _well(bus, message)
        assert bus.connection is not None
        bus.connection.writer.transport.abort()
        return None

    return answer


@contextlib.asynccontextmanager
async def _bus(folder: Path, answer: Answer) -> AsyncIterator[tuple[FakeBus, DBusScopeManager]]:
    bus, path = FakeBus(answer), folder / "bus"
    server = await asyncio.start_unix_server(bus.serve, path)
    manager = DBusScopeManager(f"unix:path={path}")
    try:
        yield bus, manager
    finally:
        await manager.close()
        server.close()


def _held() -> tuple[int, int]:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())


@pytest.mark.parametrize("answer", [_refuses, _hangs_up])
@pytest.mark.parametrize("member", ["Hello", "AddMatch", "GetNameOwner", "Subscribe"])
async def test_a_connection_that_fails_leaves_nothing(
    tmp_path: Path, answer: Callable[[str], Answer], member: str
) -> None:
    async with _bus(tmp_path, answer(member)) as (_, manager):
        before = _held()
        for _ in range(20):
            with pytest.raises(ManagerUnreachableError):
                await manager.reason_against(thoroughly=False)
        await asyncio.sleep(0.1)  # the server's own ends of the connections
        after = _held()
    assert after[0] <= before[0] + 1
    assert after[1] <= before[1] + 1


async def test_one_that_is_given_up_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    silent: Answer = lambda _bus, _message: None  # noqa: E731
    async with _bus(tmp_path, silent) as (bus, manager):
        before = _held()
        for number in range(5):
            waiting = asyncio.create_task(manager.reason_against(thoroughly=False))
            await asyncio.to_thread(wait_until, lambda: len(bus.called) > number, lambda: str(bus.called))  # noqa: B023
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.sleep(0.1)
        after = _held()
    assert after[0] <= before[0] + 1
    assert after[1] <= before[1] + 1


async def test_the_end_of_a_job_is_believed_from_systemd_alone(tmp_path: Path) -> None:
    async with _bus(tmp_path, _well) as (bus, manager):
        starting = asyncio.create_task(manager.start_scope(_REQUEST))
        await bus.has_been_called.wait()
        await bus.job_removed(":1.66", "done")
        await bus.job_removed(_OWNER, "failed")
        with pytest.raises(ManagerUnreachableError, match="ended as 'failed'"):
            await starting


async def test_systemd_is_known_again_after_it_has_executed_itself_anew(tmp_path: Path) -> None:
    async with _bus(tmp_path, _well) as (bus, manager):
        starting = asyncio.create_task(manager.start_scope(_REQUEST))
        await bus.has_been_called.wait()
        dbus = DBusAddress("/org/freedesktop/DBus", interface="org.freedesktop.DBus")
        changed = new_signal(dbus, "NameOwnerChanged", "sss", (_SYSTEMD, _OWNER, ":1.9"))
        await bus.send(changed, "org.freedesktop.DBus")
        await bus.job_removed(":1.9", "done")
        await starting
