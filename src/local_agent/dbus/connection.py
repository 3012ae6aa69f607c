"""A socket to a bus. It never waits: whoever drives it does, until the socket can be read or written."""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from jeepney.auth import BEGIN, AuthenticationError, Authenticator
from jeepney.bus import get_bus

from local_agent.dbus import BusError
from local_agent.dbus.frames import Frames, Incoming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jeepney import Message

MAX_MESSAGE_BYTES = 1 << 20  # systemd's answers to agent and broker have some hundred
_MAX_UNSENT_BYTES = 1 << 20
_READ_BYTES = 1 << 16
_READS_AT_ONCE = 4


@dataclass(slots=True)
class _Unsent:
    """What the bus has not taken yet, and the descriptors that go with its first byte, which are its own."""

    serial: int
    data: memoryview
    descriptors: list[int]
    is_begun: bool

    def let_go(self) -> None:
        for number in self.descriptors:
            os.close(number)
        self.descriptors = []


class Connection:
    """A connection to a bus. Where a method raises BusError, all that remains is to close it.

    First `connect` until it returns True, then `receive` until `is_ready`; then messages go both ways.
    """

    def __init__(
        self, address: str, *, max_message_bytes: int = MAX_MESSAGE_BYTES, passes_descriptors: bool = False
    ) -> None:
        """Given a bus's address, begin nothing yet. Raise BusError where it is no address."""
        self._address = address
        self._path = _path_of(address)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._authenticator = Authenticator(enable_fds=passes_descriptors)
        self._frames = Frames(max_message_bytes)
        self._serials = count(1)
        self._unsent: deque[_Unsent] = deque()
        self.is_ready = False

    def connect(self) -> bool:
        """Connect. Return False where too many others wait to be let in. Raise BusError where nobody listens."""
        try:
            self._socket.connect(self._path)
        except BlockingIOError:
            return False
        except OSError as error:
            raise BusError(f"cannot reach the bus {self._address}: {error}") from error
        self._send_bytes(self._authenticator.data_to_send())
        return True

    def fileno(self) -> int:
        """Return its descriptor, for who waits."""
        return self._socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        """Whether the bus has not taken all that was sent."""
        return bool(self._unsent)

    def send(self, message: Message) -> int:
        """Send a message, at once or as soon as the bus takes it. Return its serial. Raise BusError."""
        descriptors = array.array("i")
        serial = next(self._serials)
        self._send_bytes(message.serialise(serial, fds=descriptors), descriptors, serial)
        return serial

    def withdraw(self, serial: int) -> bool:
        """Take back a call that nobody waits for any more. Return False where the bus may have it."""
        for unsent in self._unsent:
            if unsent.serial == serial and not unsent.is_begun:
                self._unsent.remove(unsent)
                unsent.let_go()
                return True
        return False

    def flush(self) -> None:
        """Write what the bus takes now of what it has not taken yet. Raise BusError."""
        while self._unsent:
            first = self._unsent[0]
            rest = self._written(first.data, first.descriptors)
            if len(rest) < len(first.data):
                first.is_begun = True
                first.let_go()
            if rest:
                first.data = rest
                return
            self._unsent.popleft()

    def receive(self) -> list[Incoming]:
        """Read what has come, and not for long. Raise BusError."""
        messages: list[Incoming] = []
        for _ in range(_READS_AT_ONCE):
            data = self._read()
            if data is None:
                break
            if self.is_ready:
                messages += self._frames.feed(data)
            else:
                self._authenticate(data)
        return messages

    def close(self) -> None:
        """Close it. May be called twice."""
        for unsent in self._unsent:
            unsent.let_go()
        self._unsent.clear()
        self._socket.close()

    def _authenticate(self, answer: bytes) -> None:
        try:
            self._authenticator.feed(answer)
        except AuthenticationError as error:
            raise BusError(f"the bus {self._address} does not take who asks: {error}") from error
        self.is_ready = self._authenticator.authenticated
        self._send_bytes(BEGIN if self.is_ready else self._authenticator.data_to_send() or b"")

    def _send_bytes(self, data: bytes, descriptors: Sequence[int] = (), serial: int = 0) -> None:
        rest = memoryview(data)
        if not self._unsent:
            rest = self._written(rest, descriptors)
        elif sum(len(one.data) for one in self._unsent) + len(data) > _MAX_UNSENT_BYTES:
            raise BusError("the bus does not read what it is sent")
        if rest:
            is_begun = len(rest) < len(data)
            held = [] if is_begun else [os.dup(number) for number in descriptors]
            self._unsent.append(_Unsent(serial, rest, held, is_begun))

    def _written(self, data: memoryview, descriptors: Sequence[int]) -> memoryview:
        """Write, and return the rest. Descriptors go with the first byte."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            while data:
                data = data[self._socket.sendmsg([data], ancillary) :]
                ancillary = []
        except BlockingIOError:
            pass
        except OSError as error:
            raise _broken(error) from error
        return data

    def _read(self) -> bytes | None:
        """Return what there is, None for nothing. The kernel closes descriptors that come along: none is asked for."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise _broken(error) from error
        if not data:
            raise BusError("the bus has hung up")
        return data


def _path_of(address: str) -> str:
    try:
        return str(get_bus(address))
    except (ValueError, RuntimeError, KeyError) as error:
        raise BusError(f"{address!r} is no address of a bus") from error


def _broken(error: OSError) -> BusError:
    return BusError(f"the connection to the bus broke: {error}")
