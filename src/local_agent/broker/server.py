"""Accepts connections, hangs up on strangers, and ends when nobody has asked for a while."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from local_agent.broker.callers import Caller, identify
from local_agent.broker.connection import Connection
from local_agent.broker.protocol import Code, RefusedError, Request, encode, refusal_message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_MOST_PER_INSTANCE = 8  # an agent has one; a restart can overlap
_MOST = 512
_ACCEPTS_AT_ONCE = 32
_FINISH_SECONDS = 60.0


class Server:
    """The broker on its socket."""

    def __init__(
        self,
        listener: socket.socket,
        carry_out: Callable[[Caller, Request], Awaitable[dict[str, Any]]],
        say: Callable[[str], None],
        idle_seconds: float,
        identify: Callable[[socket.socket], Caller] = identify,
    ) -> None:
        self._listener = listener
        self._carry_out = carry_out
        self._say = say
        self._idle_seconds = idle_seconds
        self._identify = identify
        self._connections: set[Connection] = set()
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
        held = Counter(other.caller.instance for other in self._connections)
        if held[caller.instance] >= _MOST_PER_INSTANCE or held.total() >= _MOST:
            caller.process.close()
            words = f"instance {caller.instance} has {held[caller.instance]} connections already"
            self._turn_away(connection, RefusedError(Code.BUSY, words))
            return
        self._connections.add(Connection(connection, caller, self._carry_out, self._note_packet, self._forget))

    def _turn_away(self, connection: socket.socket, refusal: RefusedError) -> None:
        self._say(f"turned away: {refusal.message}")
        with connection, contextlib.suppress(OSError):
            connection.send(encode(refusal_message(refusal)), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _forget(self, connection: Connection, reason: str) -> None:
        self._connections.discard(connection)
        if reason:
            self._say(f"hung up on instance {connection.caller.instance}: {reason}")


class Speaker:
    """Writes to standard error, which is the journal; a flood of strangers does not become a flood of lines."""

    def __init__(self, clock: Callable[[], float], most_a_minute: int = 20) -> None:
        self._clock = clock
        self._most = most_a_minute
        self._since = clock()
        self._said = 0

    def __call__(self, words: str) -> None:
        """Say one line, as a warning (sd-daemon(3))."""
        if self._clock() - self._since >= 60:
            self._write(f"{self._said - self._most} more like these", is_due=self._said > self._most)
            self._since, self._said = self._clock(), 0
        self._said += 1
        self._write(words, is_due=self._said <= self._most)

    def _write(self, words: str, *, is_due: bool) -> None:
        if is_due:
            sys.stderr.write(f"<4>{ascii(words)[1:-1]}\n")
            sys.stderr.flush()
