"""A bus with systemd on it, in threads of its own: it answers as it is told to, and goes wrong as it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from jeepney import DBusAddress, HeaderFields, Message, Parser, new_error, new_method_return, new_signal

SYSTEMD = "org.freedesktop.systemd1"
BUS = "org.freedesktop.DBus"
OWNER = ":1.1"
STRANGER = ":1.66"
JOB = "/org/freedesktop/systemd1/job/7"
SECONDS = 30.0

_BODIES: dict[str, tuple[str, tuple[object, ...]]] = {
    "Hello": ("s", (":1.5",)),
    "GetNameOwner": ("s", (OWNER,)),
    "StartTransientUnit": ("o", (JOB,)),
    "StopUnit": ("o", (JOB,)),
    "GetUnit": ("o", ("/unit",)),
    "Get": ("v", (("s", "running"),)),
}

Answer = Callable[[Message], Message | bytes | None]


class FakeBus:
    """Serves on `path` within its `with` block. `answer` is what it says to a call: None is nothing, b"" hangs up."""

    def __init__(self, path: Path, answer: Answer | None = None, authenticates: bytes = b"OK 1234deadbeef\r\n") -> None:
        self.path = path
        self.address = f"unix:path={path}"
        self.answer = answer or well
        self.reads = threading.Event()  # cleared: what is sent to it stays in the socket
        self.reads.set()
        self.called: list[Message] = []
        self._authenticates = authenticates
        self._change = threading.Condition()
        self._sending = threading.Lock()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._serials = count(1)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Let clients in."""
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._begin(self._accept)

    def hang_up(self) -> None:
        """Hang up on everybody, as when the bus is restarted: dbus.socket lets clients wait for the next one."""
        for one in self._connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Hang up on everybody, and let nobody in."""
        self.reads.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        for thread in self._threads:
            thread.join()
        for one in (self._listener, *self._connections):
            one.close()
        self._threads, self._connections = [], []

    def members(self) -> list[str]:
        """Return the names of the methods that were called."""
        return [member_of(call) for call in self.called]

    def wait_for(self, member: str, times: int = 1) -> None:
        """Return once a method was called so many times."""
        with self._change:
            assert self._change.wait_for(lambda: self.members().count(member) >= times, SECONDS), self.members()

    def send(self, message: Message, sender: str) -> None:
        """Send a message to who came last, as if it came from somebody."""
        message.header.fields[HeaderFields.sender] = sender
        self.send_bytes(message.serialise(next(self._serials)))

    def send_bytes(self, data: bytes) -> None:
        """Send anything."""
        self._send_to(self._connections[-1], data)

    def _send_to(self, connection: socket.socket, data: bytes) -> None:
        with self._sending:  # whole messages, whoever sends
            connection.sendall(data)

    def job_removed(self, sender: str, result: str) -> None:
        """Send what systemd sends at the end of a job."""
        self.send(job_removed(result), sender)

    def owner_changed(self, new: str, sender: str = BUS) -> None:
        """Send what the bus sends when systemd leaves it or comes back."""
        dbus = DBusAddress("/org/freedesktop/DBus", interface=BUS)
        self.send(new_signal(dbus, "NameOwnerChanged", "sss", (SYSTEMD, OWNER, new)), sender)

    def _begin(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._begin(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for call in self._calls(connection, self._let_in(connection)):
                self._take(connection, call)
            connection.shutdown(socket.SHUT_RDWR)

    def _let_in(self, connection: socket.socket) -> bytes:
        """Return what the client sent behind its last line: it need not wait for anything then."""
        lines = b""
        while b"BEGIN\r\n" not in lines:
            data = connection.recv(1024)
            lines += data
            if b"NEGOTIATE" in data:
                connection.sendall(b"AGREE_UNIX_FD\r\n")
            elif b"AUTH" in data and self._authenticates:
                connection.sendall(self._authenticates)
            if not data:
                raise ConnectionResetError("the client has hung up")
        return lines.partition(b"BEGIN\r\n")[2]

    def _calls(self, connection: socket.socket, data: bytes) -> Iterator[Message]:
        parser = Parser()
        yield from parser.feed(data)
        while self.reads.wait() and (data := connection.recv(65536)):
            yield from parser.feed(data)

    def _take(self, connection: socket.socket, call: Message) -> None:
        with self._change:
            self.called.append(call)
            self._change.notify_all()
        reply = self.answer(call)
        if isinstance(reply, Message):
            reply.header.fields[HeaderFields.sender] = BUS
            reply = reply.serialise(next(self._serials))
        if reply is not None:
            self._send_to(connection, reply)
        if reply == b"":
            connection.shutdown(socket.SHUT_RDWR)


def member_of(call: Message) -> str:
    """Return the name of the method that is called."""
    return str(call.header.fields[HeaderFields.member])


def job_removed(result: str) -> Message:
    """Return the signal that tells of the end of the job."""
    manager = DBusAddress("/org/freedesktop/systemd1", interface=f"{SYSTEMD}.Manager")
    return new_signal(manager, "JobRemoved", "uoss", (7, JOB, "x.scope", result))


def well(call: Message) -> Message:
    """Answer as a bus and systemd do where all is well."""
    bodies: dict[str, tuple[str, tuple[object, ...]]] = {
        "Hello": ("s", (":1.5",)),
        "GetNameOwner": ("s", (OWNER,)),
        "StartTransientUnit": ("o", (JOB,)),
    }
    bodies |= {"GetUnit": ("o", ("/unit",)), "Get": ("v", (("s", "running"),)), "StopUnit": ("o", (JOB,))}
    signature, body = bodies.get(member_of(call), (None, ()))
    return new_method_return(call, signature, body)


def but(member: str, instead: Answer) -> Answer:
    """Return an answer that is another one to calls of a method."""
    return lambda call: instead(call) if member_of(call) == member else well(call)


def refuses(call: Message) -> Message:
    """Say no."""
    return new_error(call, f"{BUS}.Error.LimitsExceeded", "s", ("no more",))


def hangs_up(_call: Message) -> bytes:
    """Say nothing, and hang up."""
    return b""


def silent(_call: Message) -> None:
    """Say nothing."""
