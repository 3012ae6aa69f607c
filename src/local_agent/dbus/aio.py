"""A connection to a bus in an asyncio loop: many calls at once, and the signals that come meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from jeepney.bus_messages import message_bus
from jeepney.wrappers import DBusErrorResponse, unwrap_msg

from local_agent.dbus import AwayError, BusError
from local_agent.dbus.calls import describe, member_of
from local_agent.dbus.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from jeepney import Message

    from local_agent.dbus.frames import Incoming

_CONNECT_AGAIN_SECONDS = 0.02
# the bus's own words where nobody has the name that was called
_AWAY = frozenset(f"org.freedesktop.DBus.Error.{name}" for name in ("NoReply", "ServiceUnknown", "NameHasNoOwner"))

Body = tuple[Any, ...]


class AsyncBus:
    """A connection that is authenticated and has a name. Once it is lost `lost` is done, and it is to be closed."""

    def __init__(self, connection: Connection, on_signal: Callable[[Incoming], None]) -> None:
        """Drive a connection that is connected. `on_signal` is called with each signal, whoever sent it."""
        self._connection = connection
        self._on_signal = on_signal
        self._loop = asyncio.get_running_loop()
        self._replies: dict[int, asyncio.Future[Incoming]] = {}
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._is_writing = False
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self._loop.add_reader(connection, self._read)
        self._write_on()

    @classmethod
    async def connect(
        cls, address: str, on_signal: Callable[[Incoming], None], seconds: float, *, passes_descriptors: bool = False
    ) -> AsyncBus:
        """Connect to a bus within so many seconds. Raise BusError. Nothing is left of a connection that failed."""
        connection = Connection(address, passes_descriptors=passes_descriptors)
        with contextlib.ExitStack() as failed:
            failed.callback(connection.close)
            try:
                async with asyncio.timeout(seconds):
                    while not connection.connect():  # noqa: ASYNC110 - nothing tells when a bus lets somebody in
                        await asyncio.sleep(_CONNECT_AGAIN_SECONDS)
                    bus = cls(connection, on_signal)
                    failed.callback(bus.close)
                    await bus._ready
                    await bus.ask(message_bus.Hello(), seconds)
            except TimeoutError as error:
                raise BusError(f"the bus {address} does not answer within {seconds:.0f} s") from error
            except DBusErrorResponse as error:
                raise BusError(f"the bus {address} takes nobody: {describe(error)}") from error
            failed.pop_all()
            return bus

    def close(self) -> None:
        """Close the connection. Who waits for an answer is told so."""
        self._give_up("the connection is closed")
        self._connection.close()

    def tell(self, message: Message) -> None:
        """Send a call whose answer does not matter. Raise BusError."""
        self._check_lost()
        self._send(message)

    async def ask(self, message: Message, seconds: float, late: Callable[[Body], None] | None = None) -> Body:
        """Send a call, and return its answer's body. Raise BusError, or DBusErrorResponse for a no.

        Where nothing was sent in time it is not sent any more. `late` is given an answer that comes too late.
        """
        self._check_lost()
        serial = self._send(message)
        reply = self._replies[serial] = self._loop.create_future()
        try:
            async with asyncio.timeout(seconds):
                return _body_of(await asyncio.shield(reply))
        except TimeoutError as error:
            raise BusError(f"{member_of(message)} was not answered within {seconds:.0f} s") from error
        finally:
            if reply.done() or self._connection.withdraw(serial) or late is None:
                self._replies.pop(serial, None)
            else:
                reply.add_done_callback(_handing_to(late))

    def _send(self, message: Message) -> int:
        try:
            serial = self._connection.send(message)
        except BusError as error:
            self._give_up(str(error))
            raise
        self._write_on()
        return serial

    def _write_on(self) -> None:
        """Have the loop write what the bus has not taken yet."""
        if self._connection.wants_to_write and not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self._connection, self._write)

    def _write(self) -> None:
        try:
            self._connection.flush()
        except BusError as error:
            self._give_up(str(error))
        if self._is_writing and not self._connection.wants_to_write:
            self._is_writing = False
            self._loop.remove_writer(self._connection)

    def _read(self) -> None:
        try:
            for message in self._connection.receive():
                self._take(message)
        except BusError as error:
            self._give_up(str(error))
            return
        self._write_on()
        if self._connection.is_ready and not self._ready.done():
            self._ready.set_result(None)

    def _take(self, message: Incoming) -> None:
        if message.is_signal:
            self._on_signal(message)
            return
        reply = self._replies.pop(message.reply_to, None)
        if reply is not None and not reply.done():
            reply.set_result(message)

    def _check_lost(self) -> None:
        if self.lost.done():
            raise BusError(self.lost.result())

    def _give_up(self, reason: str) -> None:
        if self.lost.done():
            return
        self._loop.remove_reader(self._connection)
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._connection)
        self.lost.set_result(reason)
        waiting: list[asyncio.Future[Any]] = [self._ready, *self._replies.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(BusError(reason))
                future.exception()  # looked at, where nobody waits for it any more


def _body_of(answer: Incoming) -> Body:
    try:
        body: Body = unwrap_msg(answer.message())
    except DBusErrorResponse as error:
        if error.name in _AWAY:
            raise AwayError("who was called has left the bus for a moment") from error
        raise
    return body


def _handing_to(late: Callable[[Body], None]) -> Callable[[asyncio.Future[Incoming]], None]:
    def hand_on(reply: asyncio.Future[Incoming]) -> None:
        if reply.cancelled() or reply.exception() is not None:
            return
        with contextlib.suppress(BusError, DBusErrorResponse):
            late(_body_of(reply.result()))

    return hand_on
