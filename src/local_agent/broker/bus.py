"""The system bus: calls, and the signals that tell the ends of systemd's jobs. Descriptors can go with a call."""

from __future__ import annotations

import array
import asyncio
import contextlib
import socket
from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING, Any

from jeepney import DBusAddress, HeaderFields, MatchRule, MessageType, Parser, new_method_call
from jeepney.bus_messages import message_bus
from jeepney.fds import FileDescriptor, fds_buf_size
from jeepney.io.blocking import prep_socket
from jeepney.wrappers import DBusErrorResponse, unwrap_msg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jeepney import Message

SYSTEMD = "org.freedesktop.systemd1"
_SYSTEM_BUS = "/run/dbus/system_bus_socket"
_BUS = "org.freedesktop.DBus"
_MANAGER = DBusAddress("/org/freedesktop/systemd1", SYSTEMD, f"{SYSTEMD}.Manager")
_AUTHENTICATION_SECONDS = 10.0
_READS_AT_ONCE = 64
_CALL_SECONDS = 30.0
# of a start: together with its turn they are less than the agent waits (45 s), so that it gets the answer
_SHORT_CALL_SECONDS = 12.0
_CANCEL_SECONDS = 4.0
_REMEMBERED_JOBS = 256
# the bus's own words while PID 1 executes itself anew (systemctl daemon-reexec): no word of systemd
_AWAY = frozenset(f"{_BUS}.Error.{name}" for name in ("NoReply", "ServiceUnknown", "NameHasNoOwner"))


class BusError(Exception):
    """The bus, or systemd on it, does not answer. What was asked may be done all the same."""


class Bus:
    """A connection to the system bus. When it is lost `lost` is done: what remains is to end."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._parser = Parser()
        self._serials = count(1)
        self._replies: dict[int, asyncio.Future[Message]] = {}
        self._systemd = ""  # its unique name: what signals carry as their sender
        self._ends: OrderedDict[str, str] = OrderedDict()
        self._waiters: dict[str, asyncio.Future[str]] = {}
        self.lost = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(connection, self._read)

    @classmethod
    async def connect(cls) -> Bus:
        """Connect to the system bus, and have systemd tell of its jobs. Raise BusError."""
        try:
            bus = cls(prep_socket(_SYSTEM_BUS, enable_fds=True, timeout=_AUTHENTICATION_SECONDS))
        except (OSError, ValueError) as error:
            raise BusError(f"cannot reach the system bus: {error}") from error
        try:
            await bus._set_up()
        except BaseException:
            bus.close()
            raise
        return bus

    def close(self) -> None:
        """Close the connection."""
        self._give_up("the connection is closed")
        self._socket.close()

    async def call(self, method: str, signature: str = "", body: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """Call a method of systemd's manager. Raise BusError, or DBusErrorResponse for systemd's no."""
        return await self._answer(_to_manager(method, signature, body))

    async def get(self, path: str, interface: str, name: str) -> Any:  # noqa: ANN401 - as the property is
        """Return a property of an object of systemd. Raise as `call` does."""
        address = DBusAddress(path, SYSTEMD, f"{_BUS}.Properties")
        message = new_method_call(address, "Get", "ss", (f"{SYSTEMD}.{interface}", name))
        ((_, value),) = await self._answer(message)
        return value

    async def run_job(self, method: str, signature: str, body: tuple[Any, ...]) -> str:
        """Call a method that starts a job, and return the job's result when it is over. Raise as `call` does."""
        (path,) = await self.call(method, signature, body)
        return await self._end_of(path, f"the end of {method}", _CALL_SECONDS)

    async def run_short_job(self, method: str, signature: str, body: tuple[Any, ...], seconds: float) -> str:
        """The same for a job that is wanted now or not at all: where its end does not come in time it is cancelled.

        Where systemd's reply does not come in time the job is cancelled as soon as it comes. Raise as `call` does.
        """
        message = _to_manager(method, signature, body)
        (path,) = await self._answer(message, _SHORT_CALL_SECONDS, self._cancel_late)
        with contextlib.suppress(BusError):
            return await self._end_of(path, f"the end of {method}", seconds)
        with contextlib.suppress(DBusErrorResponse):  # it has just ended
            await self._answer(_cancelling(path), _CANCEL_SECONDS)
        return await self._end_of(path, f"the end of {method}, which was cancelled", _CANCEL_SECONDS)

    async def _end_of(self, path: str, what: str, seconds: float) -> str:
        if path in self._ends:  # a fast job: its signal came before the reply was looked at
            return self._ends.pop(path)
        waiter = self._waiters[path] = asyncio.get_running_loop().create_future()
        try:
            return str(await _in_time(waiter, what, seconds))
        finally:
            del self._waiters[path]

    def _cancel_late(self, reply: asyncio.Future[Message]) -> None:
        """A job whose starter was told that there is no answer must not begin after that."""
        if reply.cancelled() or reply.exception() is not None:
            return
        if reply.result().header.message_type is MessageType.method_return:
            with contextlib.suppress(BusError):
                self._send(_cancelling(reply.result().body[0]), next(self._serials))

    async def _set_up(self) -> None:
        jobs = MatchRule(type="signal", sender=SYSTEMD, interface=f"{SYSTEMD}.Manager", member="JobRemoved")
        owners = MatchRule(type="signal", sender=_BUS, interface=_BUS, member="NameOwnerChanged")
        owners.add_arg_condition(0, SYSTEMD)
        try:
            for message in (message_bus.Hello(), message_bus.AddMatch(jobs), message_bus.AddMatch(owners)):
                await self._answer(message)
            (self._systemd,) = await self._answer(message_bus.GetNameOwner(SYSTEMD))
            await self.call("Subscribe")
        except DBusErrorResponse as error:
            raise BusError(f"the system bus refuses: {error}") from error

    async def _answer(
        self,
        message: Message,
        seconds: float = _CALL_SECONDS,
        late: Callable[[asyncio.Future[Message]], None] | None = None,
    ) -> tuple[Any, ...]:
        """Send a call, and return its answer. `late` is told of an answer that comes after nobody waits for it."""
        serial = next(self._serials)
        reply = self._replies[serial] = asyncio.get_running_loop().create_future()
        try:
            self._send(message, serial)
            body: tuple[Any, ...] = unwrap_msg(await _in_time(asyncio.shield(reply), "a call", seconds))
        except DBusErrorResponse as error:
            if error.name in _AWAY:
                raise BusError("systemd has left the bus for a moment") from error
            raise
        finally:
            if late is not None and not reply.done():
                reply.add_done_callback(late)
                reply.add_done_callback(lambda _: self._replies.pop(serial, None))
            else:
                del self._replies[serial]
        return body

    def _send(self, message: Message, serial: int) -> None:
        """Requests are small, and the bus reads: this does not block for long."""
        descriptors = array.array("i")
        data = message.serialise(serial, fds=descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if descriptors else []
        try:
            sent = self._socket.sendmsg([data], ancillary)
            self._socket.sendall(data[sent:])
        except OSError as error:
            self._give_up(f"the connection to the bus broke: {error}")
            raise BusError(f"the connection to the bus broke: {error}") from error

    def _read(self) -> None:
        try:
            for _ in range(_READS_AT_ONCE):
                self._read_some()
        except BlockingIOError:
            return
        except OSError as error:
            self._give_up(f"the connection to the bus broke: {error}")

    def _read_some(self) -> None:
        """Read as the parser wants it: never beyond a message, so that descriptors stay with theirs."""
        data, ancillary, _, _ = self._socket.recvmsg(self._parser.bytes_desired(), fds_buf_size(), socket.MSG_DONTWAIT)
        if not data:
            raise ConnectionResetError("the bus has hung up")
        descriptors = FileDescriptor.from_ancdata(ancillary)  # anybody may send some
        self._parser.add_data(data, descriptors)
        for descriptor in descriptors:
            descriptor.close()
        message = self._parser.get_next_message()
        if message is not None:
            self._take(message)

    def _take(self, message: Message) -> None:
        fields = message.header.fields
        reply = self._replies.get(fields.get(HeaderFields.reply_serial, 0))
        if message.header.message_type is not MessageType.signal:
            if reply is not None and not reply.done():
                reply.set_result(message)
            return
        sender, member = fields.get(HeaderFields.sender), fields.get(HeaderFields.member)
        if sender == _BUS and member == "NameOwnerChanged" and message.body[0] == SYSTEMD:
            self._systemd = message.body[2]
        elif sender == self._systemd and member == "JobRemoved":  # any user can send one that looks like it
            self._note_end(message.body[1], message.body[3])

    def _note_end(self, path: str, result: str) -> None:
        waiter = self._waiters.get(path)
        if waiter is not None and not waiter.done():
            waiter.set_result(result)
            return
        self._ends[path] = result
        if len(self._ends) > _REMEMBERED_JOBS:
            self._ends.popitem(last=False)

    def _give_up(self, reason: str) -> None:
        if self.lost.done():
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        for future in (*self._replies.values(), *self._waiters.values()):
            if not future.done():
                future.set_exception(BusError(reason))
        self.lost.set_result(reason)


def _to_manager(method: str, signature: str = "", body: tuple[Any, ...] = ()) -> Message:
    return new_method_call(_MANAGER, method, signature or None, body)


def _cancelling(job: str) -> Message:
    """Given the path of a job, .../job/123, return what cancels it."""
    return _to_manager("CancelJob", "u", (int(job.rpartition("/")[2]),))


async def _in_time(answer: Awaitable[Any], what: str, seconds: float) -> Any:  # noqa: ANN401 - whatever is awaited
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError as error:
        raise BusError(f"systemd did not answer {what} within {seconds:.0f} s") from error
