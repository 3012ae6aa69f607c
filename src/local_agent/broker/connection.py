"""One caller's connection: its greeting, its requests, and their answers, several at once."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from local_agent.broker.callers import Caller, sender_of
from local_agent.broker.protocol import (
    MAX_REQUEST_BYTES,
    Code,
    RefusedError,
    Request,
    encode,
    read_id,
    read_packet,
    read_request,
    refusal_message,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_MAX_AT_ONCE = 32
_ANCILLARY_BYTES = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4)
_READS_AT_ONCE = 16
_SEND_SECONDS = 30.0
_GREETING_SECONDS = 10.0


class Connection:
    """A connection that is open until `close`, and silent until `greet`.

    `on_packet` is told of each packet, `on_end` of its end.
    """

    def __init__(
        self,
        connection: socket.socket,
        caller: Caller,
        carry_out: Callable[[Caller, Request], Awaitable[dict[str, Any]]],
        on_packet: Callable[[], None],
        on_end: Callable[[Connection, str], None],
    ) -> None:
        self.caller = caller
        self._socket = connection
        self._carry_out = carry_out
        self._on_packet = on_packet
        self._on_end = on_end
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()
        self._is_reading = False
        self._is_finishing = False
        self._is_open = True
        self._late: asyncio.TimerHandle | None = None
        self.is_proved = False
        connection.settimeout(0)
        # before the greeting goes out: the kernel adds credentials to what is sent from here on
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def greet(self) -> None:
        """Greet the caller, who is known to be an agent now, and take its requests."""
        self.is_proved = True
        self._send({"hello": self.caller.nonce})
        self._late = asyncio.get_running_loop().call_later(_GREETING_SECONDS, self._check_greeted)
        self._read_on()

    def turn_away(self, refusal: RefusedError) -> None:
        """Say why the caller is not served, and hang up."""
        self._send(refusal_message(refusal))
        self.close(refusal.message)

    @property
    def is_busy(self) -> bool:
        """Whether a request is being carried out, or it is still to be found out whether the caller is an agent."""
        return bool(self._tasks) or not self.is_proved

    def close(self, reason: str = "") -> None:
        """Hang up; requests under way are finished and their answers dropped. `reason` is for the log, "" for none."""
        if not self._is_open:
            return
        self._is_open = False
        if self._late is not None:
            self._late.cancel()
        self._pause()
        asyncio.get_running_loop().remove_writer(self._socket)
        self._socket.close()
        self.caller.process.close()
        self._on_end(self, reason)

    async def finish(self) -> None:
        """Take no more packets, so that the caller cannot send them; answer those that it has sent; hang up."""
        self._is_finishing = True
        self._pause()
        if self._is_open:
            self._socket.shutdown(socket.SHUT_RD)
        while self._is_open and self._take_packet():
            if len(self._tasks) >= _MAX_AT_ONCE:
                await asyncio.wait(self._tasks)
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.close()

    def _check_greeted(self) -> None:
        if not self.caller.has_greeted:
            self.close(f"its greeting was not returned within {_GREETING_SECONDS:.0f} s")

    def _read_on(self) -> None:
        if self._is_open and not self._is_reading and not self._is_finishing:
            self._is_reading = True
            asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _pause(self) -> None:
        if self._is_reading:
            self._is_reading = False
            asyncio.get_running_loop().remove_reader(self._socket)

    def _read(self) -> None:
        for _ in range(_READS_AT_ONCE):
            if len(self._tasks) >= _MAX_AT_ONCE:
                self._pause()  # the caller's packets wait in the socket until answers have gone out
                return
            if not self._is_open or not self._take_packet():
                return

    def _take_packet(self) -> bool:
        """Take one packet and start on what it asks. Return False where there was none."""
        try:
            packet, ancillary, flags, _ = self._socket.recvmsg(
                MAX_REQUEST_BYTES, _ANCILLARY_BYTES, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return False
        except OSError as error:
            self.close(f"the connection broke: {error}")
            return False
        sender_pid = sender_of(ancillary)
        if not packet:
            if not self._is_finishing:
                self.close()
            return False
        self._on_packet()
        try:
            self._handle(packet, sender_pid, flags)
        except RefusedError as refusal:
            self._send(refusal_message(refusal))
            self.close(refusal.message)
        return True

    def _handle(self, packet: bytes, sender_pid: int, flags: int) -> None:
        """Raise RefusedError for what ends the connection."""
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise RefusedError(Code.BAD_MESSAGE, f"a packet has at most {MAX_REQUEST_BYTES} bytes and no descriptors")
        self.caller.check_sender(sender_pid)
        message = read_packet(packet)
        if not self.caller.has_greeted:
            if message != {"hello": self.caller.nonce}:
                raise RefusedError(Code.BAD_MESSAGE, "the first packet repeats the greeting")
            self.caller.has_greeted = True
            return
        request_id = read_id(message)
        try:
            request = read_request(message)
        except RefusedError as refusal:
            self._send(refusal_message(refusal, request_id))
            return
        task = asyncio.create_task(self._answer(request))
        self._tasks.add(task)
        task.add_done_callback(self._note_answer)

    async def _answer(self, request: Request) -> None:
        try:
            answer = {"id": request.id, "ok": await self._carry_out(self.caller, request)}
        except RefusedError as refusal:
            answer = refusal_message(refusal, request.id)
        try:
            async with self._sending, asyncio.timeout(_SEND_SECONDS):
                if self._is_open:
                    await asyncio.get_running_loop().sock_sendall(self._socket, encode(answer))
        except (OSError, TimeoutError) as error:
            self.close(f"the caller does not take its answer: {error}")

    def _note_answer(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.close(f"a fault of the broker itself: {error!r}")
        elif len(self._tasks) < _MAX_AT_ONCE:
            self._read_on()

    def _send(self, message: dict[str, Any]) -> None:
        """Send something small, or hang up on a caller that does not read."""
        if not self._is_open:
            return
        try:
            self._socket.send(encode(message), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            self.close(f"the caller does not take its answer: {error}")
