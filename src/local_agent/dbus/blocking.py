"""A connection to a bus for whoever waits: many calls are on their way before the first answer is read."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

from jeepney import MessageType
from jeepney.bus_messages import message_bus

from local_agent.dbus import BusError, SilentBusError
from local_agent.dbus.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jeepney import Message

# the list of a machine's 20,000 units takes some 6 MiB
MAX_MESSAGE_BYTES = 1 << 25
_CONNECT_AGAIN_SECONDS = 0.02


class BlockingBus:
    """A connection that is authenticated and has a name. After a BusError all that remains is to close it."""

    def __init__(self, address: str, seconds: float) -> None:
        """Connect to a bus within so many seconds. Raise BusError. Nothing is left of a connection that failed."""
        self._connection = Connection(address, max_message_bytes=MAX_MESSAGE_BYTES)
        try:
            self._set_up(address, seconds)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, calls: Sequence[Message], seconds: float) -> list[Message]:
        """Make calls, all at once, and return the answers in the same order. Raise BusError where one is missing.

        A bus lets a connection wait for 128 answers at a time (dbus-daemon(1), max_replies_per_connection).
        """
        until = time.monotonic() + seconds
        serials = [self._connection.send(call) for call in calls]
        answers: dict[int, Message] = {}
        while not all(serial in answers for serial in serials):
            self._wait(until, f"there is no answer within {seconds:.0f} s")
            for incoming in self._connection.receive():
                if incoming.reply_to in serials:
                    answers[incoming.reply_to] = incoming.message()
        return [answers[serial] for serial in serials]

    def _set_up(self, address: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        silence = f"the bus {address} does not answer within {seconds:.0f} s"
        while not self._connection.connect():
            if time.monotonic() > until:
                raise SilentBusError(silence)
            time.sleep(_CONNECT_AGAIN_SECONDS)
        while not self._connection.is_ready:
            self._wait(until, silence)
            self._connection.receive()
        (answer,) = self.ask([message_bus.Hello()], max(0.0, until - time.monotonic()))
        if answer.header.message_type is MessageType.error:
            raise BusError(f"the bus {address} takes nobody")

    def _wait(self, until: float, silence: str) -> None:
        """Return when there is something to read, and write meanwhile. Raise BusError where that takes too long."""
        poll = select.poll()
        while True:
            poll.register(self._connection, select.POLLIN | (select.POLLOUT if self._connection.wants_to_write else 0))
            rest = until - time.monotonic()
            found = poll.poll(rest * 1000) if rest > 0 else []  # there may be no end of what nobody has asked for
            if not found:
                raise SilentBusError(silence)
            self._connection.flush()
            if found[0][1] & ~select.POLLOUT:
                return
