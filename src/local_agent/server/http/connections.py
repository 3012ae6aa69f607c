"""The connections of the embedded API: their bytes reach aiohttp's parser by way of `framing`, none stays for ever."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections import Counter
from collections.abc import Callable

from aiohttp import web

from local_agent.net.http_guard import Head, RefusedHeadError
from local_agent.server.asking.stats import Stats
from local_agent.server.bounds.limits import Limits
from local_agent.server.bounds.tidiness import Tidiness
from local_agent.server.http.framing import Framing
from local_agent.server.http.peers import Allowed, peer_of

_SWEEP_SECONDS = 0.5
_LOOK_SECONDS = 0.01
_QUIET_SECONDS = 60.0

_SILENT_GO = "those that are silent for longest are closed. LimitNOFILE= of the unit bounds them, too"
# at once, where the kernel has no descriptor left
_MADE_ROOM = 4

# Stands for a request that is refused. Its answer so waits for those to the requests before it, as aiohttp has it.
_REFUSED = b"GET /refused HTTP/1.1\r\nHost: -\r\nConnection: close\r\n\r\n"


class Connection(web.RequestHandler):
    """One connection, as aiohttp has it.

    `refusal` is why what came is not read any further. `allowance` is by what it may ask without a key, "" if it may
    not.
    """

    __slots__ = (
        "_ended",
        "_framing",
        "_has_handler",
        "_is_held",
        "_is_stuck",
        "_is_waiting_to_go_on",
        "_pool",
        "_stranger",
        "allowance",
        "client",
        "is_answering",
        "is_known",
        "refusal",
        "since",
        "until",
    )

    def __init__(self, pool: Connections, manager: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            manager,
            loop=loop,
            # `until` bounds that, and what comes before the first request, too.
            keepalive_timeout=10 * pool.limits.idle_seconds,
            lingering_time=pool.limits.receive_seconds,
            logger=pool.logger,
            access_log=None,  # type: ignore[arg-type]  # as the documentation says
            auto_decompress=False,
            max_field_size=65_536,
            max_line_size=65_536,
        )
        self._pool = pool
        self._framing = Framing(pool.limits.body_bytes, pool.limits.small_bytes)
        self._is_held = self._is_stuck = self._is_waiting_to_go_on = self._has_handler = False
        self._ended: asyncio.Future[None] = loop.create_future()
        self.client = self.allowance = ""
        self._stranger: RefusedHeadError | None = None
        self.refusal: RefusedHeadError | None = None
        self.is_answering = False
        self.is_known = False
        self.since = self.until = math.inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is a place."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._recognize(transport)
        self._wait(self._pool.limits.receive_seconds)
        self._pool.add(self)

    def _recognize(self, transport: asyncio.BaseTransport) -> None:
        """Learn what tells clients apart: an address, or a user on a unix socket."""
        connection = transport.get_extra_info("socket")
        if connection.family != socket.AF_UNIX:
            self.client = str(transport.get_extra_info("peername")[0])
            return
        peer = peer_of(connection)
        self.client = f"uid {peer.uid}"
        try:
            self.allowance = self._pool.allowed.allowance(peer)
        except RefusedHeadError as error:
            self._stranger = error

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._pool.discard(self)
        self._end()
        if self._has_handler:
            super().connection_lost(exc)
        self.transport = None

    def data_received(self, data: bytes) -> None:
        """Hand on what the parser may have."""
        if not data:
            # aiohttp itself, which goes on with what it has (since 3.13).
            self._give_aiohttp(data)
            return
        if self.refusal is not None:
            return
        if self._framing.is_idle:
            self._wait(self._pool.limits.receive_seconds)
        self._hand_on(self._framing.receive, data)
        if self._framing.held_bytes > self._pool.limits.small_bytes and self.transport is not None:
            # It goes on when the request before has its answer. Not by aiohttp's own, which holds up its parser, too.
            self._is_held = True
            self.transport.pause_reading()

    def _hand_on(self, take: Callable[..., bytes], *data: bytes) -> None:
        try:
            if self._stranger is not None:
                raise self._stranger
            taken = take(*data)
        except RefusedHeadError as error:
            self.refusal = error
            self._framing.forget()
            taken = _REFUSED
        whole = self._framing.take_whole()
        if whole is not None:
            self.is_answering = True
            self._pool.answer(self, whole)
        elif taken:
            self.is_answering = True
            self._give_aiohttp(taken)

    def _give_aiohttp(self, data: bytes) -> None:
        """Have aiohttp read something. It begins here: most connections never need its handler, and a task with it."""
        if not self._has_handler and self.transport is not None:
            self._has_handler = True
            super().connection_made(self.transport)
        super().data_received(data)

    @property
    def head(self) -> Head:
        """The head of the request that is being answered."""
        return self._framing.head

    def send(self, answer: bytes, *, is_last: bool) -> None:
        """Answer the request that came whole."""
        if self.transport is not None:
            self.transport.write(answer)
            if is_last:
                self.transport.close()
        self.answered()

    def answered(self) -> None:
        """The request has its answer, which is about to be sent: go on with what came meanwhile."""
        self.is_known = self.refusal is None
        self._wait(self._pool.limits.idle_seconds)
        # The answer itself is written after this.
        self._loop.call_soon(self._go_on)

    def pause_writing(self) -> None:
        """The client does not take its answers."""
        super().pause_writing()
        self._is_stuck = True

    def resume_writing(self) -> None:
        """It has taken them."""
        super().resume_writing()
        self._is_stuck = False
        if self._is_waiting_to_go_on:
            self._go_on()

    def _go_on(self) -> None:
        """Begin with what came meanwhile, unless answers pile up that the client does not take."""
        self._is_waiting_to_go_on = self._is_stuck
        if self._is_stuck:
            return
        self.is_answering = False
        if self.refusal is None and self.transport is not None:
            self._hand_on(self._framing.answered)
            if self._framing.is_receiving:
                self._wait(self._pool.limits.receive_seconds)
            self._read_on()
        if self._ended.done() and not self.is_answering and self.transport is not None:
            self.transport.close()

    def _read_on(self) -> None:
        if self._is_held and self.transport is not None:
            self._is_held = False
            self.transport.resume_reading()

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's says nothing, and so hangs up
        """A client that has said all it wants to say still gets its answers; one that has not is gone."""
        self._end()
        is_half = self.refusal is None and self._framing.is_receiving
        if self.transport is not None and (is_half or not self.is_answering):
            self.transport.close()
        return True

    async def farewell(self, seconds: float) -> None:
        """Say that no more comes, and wait so long until the client hangs up."""
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()
            await asyncio.wait([self._ended], timeout=seconds)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _wait(self, seconds: float) -> None:
        self.since = time.monotonic()
        self.until = self.since + seconds

    @property
    def unsent_bytes(self) -> int:
        """How much of its answer the client has not taken."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Hang up at once."""
        if self.transport is not None:
            self.transport.abort()


class Connections:
    """All connections. Where there is no place for one more, the one goes that has been silent for longest."""

    def __init__(
        self,
        limits: Limits,
        stats: Stats,
        say: Callable[[str], None],
        answer: Callable[[Connection, bytes], None],
        allowed: Allowed,
    ) -> None:
        """`answer` is given requests that came whole, and their bodies; all others reach aiohttp's handler."""
        self.limits = limits
        self.answer = answer
        self.allowed = allowed
        self.logger = logging.Logger("http")  # noqa: LOG001 - one of our own, whose lines nobody else gets
        self.logger.addHandler(_Said(say))
        self._stats = stats
        self._say = say
        self.tidiness = Tidiness()
        self._all: set[Connection] = set()
        self._by_client: Counter[str] = Counter()
        self._sweeping: asyncio.TimerHandle | None = None
        self._quiet_until = self._room_again_at = 0.0

    def __len__(self) -> int:
        return len(self._all)

    @property
    def _are_answering(self) -> bool:
        """Whether some request has no answer yet, or its answer has not gone, or is about to come."""
        recently = time.monotonic() - self.limits.first_request_seconds
        return any(
            each.is_answering or each.unsent_bytes or (not each.is_known and each.since > recently)
            for each in self._all
        )

    def add(self, connection: Connection) -> None:
        """Take a new connection in."""
        self._stats.connected()
        self._all.add(connection)
        self._by_client[connection.client] += 1
        if self._by_client[connection.client] > self.limits.connections_of_a_client:
            self._make_room([each for each in self._all if each.client == connection.client])
        if len(self._all) > self.limits.connections:
            self._make_room(list(self._all))
        if self._sweeping is None:
            self._sweep()

    def discard(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        if connection in self._all:
            self._all.remove(connection)
            self._by_client[connection.client] -= 1
            if not self._by_client[connection.client]:
                del self._by_client[connection.client]

    def _make_room(self, among: list[Connection]) -> None:
        """Hang up on whoever never asked anything, else on whoever has been silent for longest."""
        found = min((each for each in among if not each.is_answering), key=_worth, default=among[-1])
        self._complain(
            f"error: there are more than {self.limits.connections_of_a_client} connections of one client or"
            f" {self.limits.connections} in all; {_SILENT_GO}"
        )
        self.discard(found)
        found.abort()

    def no_room(self, error: OSError) -> None:
        """Hang up on whoever has been silent for longest: the kernel gives no descriptor for one more connection."""
        if time.monotonic() < self._room_again_at:  # asyncio says it once for each that waits
            return
        self._room_again_at = time.monotonic() + _SWEEP_SECONDS
        self._complain(f"error: a connection cannot be taken: {error.strerror}; {_SILENT_GO}")
        silent = [each for each in self._all if not each.is_answering]
        for each in sorted(silent, key=_worth)[:_MADE_ROOM]:
            self.discard(each)
            each.abort()

    def _complain(self, what: str) -> None:
        if time.monotonic() > self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            self._say(what)

    def _sweep(self) -> None:
        """Hang up on whoever is out of time."""
        now = time.monotonic()
        for connection in [each for each in self._all if each.until < now]:
            connection.abort()
            self.tidiness.disturb()
        self.tidiness.restore()
        self._sweeping = None
        if self._all or self.tidiness.is_due:
            self._sweeping = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def bound_unsent(self) -> None:
        """Hang up on those that leave most of their answers lying, while all together leave too much."""
        waiting = sorted(self._all, key=lambda each: each.unsent_bytes)
        in_all = sum(each.unsent_bytes for each in waiting)
        while waiting and in_all > self.limits.bytes_in_all:
            largest = waiting.pop()
            in_all -= largest.unsent_bytes
            largest.abort()

    async def close(self, last_answers_seconds: float) -> None:
        """Wait so long until every request has its answer, and hang up on all."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        until = time.monotonic() + last_answers_seconds
        while self._are_answering and time.monotonic() < until:  # noqa: ASYNC110 - a few times at most
            await asyncio.sleep(_LOOK_SECONDS)
        for connection in list(self._all):
            connection.abort()


class _Said(logging.Handler):
    """Has aiohttp's complaints go where all the others go; whose fault it is, their tracebacks do not tell."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Say it in one line."""
        reason = record.exc_info[1] if record.exc_info else None
        self._say(f"error: {record.getMessage()}{f': {reason!r}' if reason else ''}")


def _worth(connection: Connection) -> tuple[bool, float]:
    return (connection.is_known, connection.since)
