"""Accepts connections, hangs up on strangers, and ends when nobody has asked for a while."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys
from typing import TYPE_CHECKING, Any

from local_agent.broker.callers import Caller, identify
from local_agent.broker.connection import Connection
from local_agent.broker.protocol import Code, RefusedError, Request, encode, refusal_message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_MAX_PER_INSTANCE = 8  # an agent has one; a restart can overlap
# of processes that are still to be proved the main one of their service, which takes milliseconds
_MAX_UNPROVED_PER_INSTANCE = 16
_MAX_UNPROVED_PER_PROCESS = 8
_MAX = 1024  # each has two descriptors, and the broker's unit gives it 4096
_ACCEPTS_AT_ONCE = 32
_FINISH_SECONDS = 60.0


class Server:
    """The broker on its socket."""

    def __init__(
        self,
        listener: socket.socket,
        carry_out: Callable[[Caller, Request], Awaitable[dict[str, Any]]],
        prove: Callable[[Caller], Awaitable[None]],
        say: Callable[[str], None],
        idle_seconds: float,
        identify: Callable[[socket.socket], Caller] = identify,
    ) -> None:
        self._listener = listener
        self._carry_out = carry_out
        self._prove = prove
        self._say = say
        self._idle_seconds = idle_seconds
        self._identify = identify
        self._connections: dict[Connection, asyncio.Task[None]] = {}  # each with what proves its caller
        self._last_packet = 0.0
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until `stop`, or until no packet has come for a while. What was taken is answered."""
        loop = asyncio.get_running_loop()
        self._listener.settimeout(0)
        self._note_packet()
        loop.add_reader(self._listener, self._accept)
        await self._until_idle()
        loop.remove_reader(self._listener)  # who connects from here on waits for the next broker
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_SECONDS):
                await asyncio.gather(*self._connections.values())
                await asyncio.gather(*(connection.finish() for connection in self._connections))
        for connection in list(self._connections):
            connection.close()

    def stop(self) -> None:
        """Have `run` come to its end."""
        self._stop.set()

    async def _until_idle(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            rest = self._last_packet + self._idle_seconds - loop.time()
            if any(connection.is_busy for connection in self._connections):
                rest = self._idle_seconds
            if rest <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._stop.wait()

    def _note_packet(self) -> None:
        self._last_packet = asyncio.get_running_loop().time()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # the caller is gone again, or there are too many descriptors
                self._say(f"cannot accept a connection: {error}")
                return
            self._meet(connection)

    def _meet(self, connection: socket.socket) -> None:
        try:
            caller = self._identify(connection)
        except RefusedError as refusal:
            self._turn_away(connection, refusal)
            return
        if full := self._is_full(caller):
            caller.process.close()
            self._turn_away(connection, RefusedError(Code.BUSY, full))
            return
        self._note_packet()
        taken = Connection(connection, caller, self._carry_out, self._note_packet, self._forget)
        self._connections[taken] = asyncio.create_task(self._welcome(taken))

    def _is_full(self, caller: Caller) -> str:
        """Say why a caller that is still to be proved finds no room, "" where it does.

        What other processes of its instance do, and what other instances do, takes nothing from an agent.
        """
        unproved = [other.caller for other in self._connections if not other.is_proved]
        of_instance = [other for other in unproved if other.instance == caller.instance]
        of_process = [other for other in of_instance if other.process.pid == caller.process.pid]
        if len(of_process) >= _MAX_UNPROVED_PER_PROCESS or len(of_instance) >= _MAX_UNPROVED_PER_INSTANCE:
            return f"{len(of_instance)} connections of instance {caller.instance} are being looked at"
        return "there are too many connections" if len(self._connections) >= _MAX else ""

    async def _welcome(self, connection: Connection) -> None:
        caller = connection.caller
        try:
            await self._prove(caller)
            self._check_room(caller)
        except RefusedError as refusal:
            connection.turn_away(refusal)
        except Exception as error:
            connection.close(f"a fault of the broker itself: {error!r}")
        else:
            connection.greet()

    def _check_room(self, caller: Caller) -> None:
        held = sum(other.is_proved and other.caller.instance == caller.instance for other in self._connections)
        if held >= _MAX_PER_INSTANCE:
            raise RefusedError(Code.BUSY, f"instance {caller.instance} has {held} connections already")

    def _turn_away(self, connection: socket.socket, refusal: RefusedError) -> None:
        self._say(f"turned away: {refusal.message}")
        with connection, contextlib.suppress(OSError):
            connection.send(encode(refusal_message(refusal)), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _forget(self, connection: Connection, reason: str) -> None:
        self._connections.pop(connection, None)
        if reason:
            self._say(f"hung up on instance {connection.caller.instance}: {reason}")


class RateLimitedLog:
    """Writes to standard error, which is the journal; a flood of strangers does not become a flood of lines.

    Where journald does not read, lines are lost and counted: nobody who asks the broker waits for it.
    """

    def __init__(self, clock: Callable[[], float], most_a_minute: int = 20) -> None:
        self._clock = clock
        self._most = most_a_minute
        self._since = clock()
        self._said = 0
        self._lost = 0

    def __call__(self, words: str) -> None:
        """Say one line, as a warning (sd-daemon(3))."""
        if self._clock() - self._since >= 60:
            self._write(f"{self._said - self._most} more like these", is_due=self._said > self._most)
            self._since, self._said = self._clock(), 0
        self._said += 1
        self._write(words, is_due=self._said <= self._most)

    def _write(self, words: str, *, is_due: bool) -> None:
        if not is_due:
            return
        if not select.select([], [sys.stderr], [], 0)[1]:
            self._lost += 1
            return
        if self._lost:
            sys.stderr.write(f"<4>{self._lost} messages were lost while journald did not read\n")
            self._lost = 0
        sys.stderr.write(f"<4>{ascii(words)[1:-1]}\n")
        sys.stderr.flush()
