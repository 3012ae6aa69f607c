"""Writing to readers who may not read: a thread of its own writes, so whoever says something never waits.

A console may be a pipe that nobody empties or a terminal that was stopped with Ctrl-S; journald and PID 1 may be
stopped, busy or gone. What they do not take waits in a bounded queue. What finds no place there is counted, and the
count is said in its place as soon as somebody reads again.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAX_BYTES = 4 * 1024 * 1024
_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 10.0
# what is said within a moment is written together: to wake a thread for each message costs more than to write it
_GATHER_SECONDS = 0.01
_MAX_TOGETHER_BYTES = 64 * 1024
# the message itself is what is not taken, and to try again would change nothing
_NEVER_TAKEN = frozenset({errno.EMSGSIZE, errno.EINVAL, errno.ENOBUFS})


class Sink(Protocol):
    """Where messages go. `name` is the reader's, as in "the console did not read".

    `is_stream` tells whether several may be written as one.
    """

    name: str
    is_stream: bool

    def write(self, message: bytes) -> int:
        """Write, for as long as it takes, and return how many bytes were taken. Raise OSError."""


class Outbox:
    """Takes messages and has them written in their order.

    `notice` makes the message that says how many were lost, and why. At most `most_bytes` wait.
    """

    def __init__(self, sink: Sink, notice: Callable[[int, str], bytes], most_bytes: int = _MAX_BYTES) -> None:
        self._sink = sink
        self._notice = notice
        self._most_bytes = most_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._lost = 0
        self._problem = ""
        self._closing = False
        self._thread: threading.Thread | None = None
        # re-entrant: what is collected as garbage meanwhile may have something to say, too
        self._changed = threading.Condition(threading.RLock())

    @property
    def room_bytes(self) -> int:
        """How many bytes would find a place now."""
        return max(0, self._most_bytes - self._waiting_bytes)

    def put(self, message: bytes) -> None:
        """Have a message written. Return at once, whether it found a place or not."""
        with self._changed:
            if self._waiting_bytes + len(message) > self._most_bytes or self._closing:
                self._lost += 1
                return
            self._say_what_was_lost()
            self._append(message)
            self._start_if_needed()
            self._changed.notify_all()

    def close(self, within_seconds: float) -> int:
        """Take nothing more, wait so long until all is written, and return how many messages were not.

        Where writing fails there is no waiting.
        """
        until = time.monotonic() + within_seconds
        with self._changed:
            self._say_what_was_lost()
            self._closing = True
            self._changed.notify_all()
            while self._waiting and not self._problem and (rest := until - time.monotonic()) > 0:
                self._changed.wait(rest)
            return self._lost + len(self._waiting)

    def _append(self, message: bytes) -> None:
        self._waiting.append(message)
        self._waiting_bytes += len(message)

    def _say_what_was_lost(self) -> None:
        if self._lost:
            reason = self._problem or f"{self._sink.name} did not read"
            self._append(self._notice(self._lost, reason))
            self._lost, self._problem = 0, ""

    def _start_if_needed(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"write to {self._sink.name}", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while messages := self._next():
            were_taken = self._write(messages)
            with self._changed:
                for message in messages:
                    self._waiting.popleft()
                    self._waiting_bytes -= len(message)
                if not self._lost:
                    self._problem = ""
                elif were_taken and not self._waiting:
                    self._say_what_was_lost()
                has_more = self._waiting or self._closing
                self._changed.notify_all()
            if not has_more:
                _pause(_GATHER_SECONDS)

    def _next(self) -> list[bytes]:
        """Return the messages whose turn it is, none once there will be no more. They keep their places until written.

        More than one only where the sink is a stream.
        """
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return []
                self._changed.wait()
            return list(self._together()) if self._sink.is_stream else [self._waiting[0]]

    def _together(self) -> Iterator[bytes]:
        length = 0
        for message in self._waiting:
            length += len(message)
            yield message
            if length >= _MAX_TOGETHER_BYTES:
                return

    def _write(self, messages: list[bytes]) -> bool:
        """Write messages, however often that takes. Return False where they can never be."""
        pause_seconds = _FIRST_PAUSE_SECONDS
        rest = b"".join(messages)
        while rest:
            try:
                rest = rest[self._sink.write(rest) :]
                continue
            except OSError as error:
                self._note(error, len(messages))
                if error.errno in _NEVER_TAKEN:
                    return False
            _pause(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)
        return True

    def _note(self, error: OSError, count: int) -> None:
        with self._changed:
            self._problem = f"{self._sink.name} took none: {error.strerror}"
            if error.errno in _NEVER_TAKEN:
                self._lost += count
            self._changed.notify_all()


def _pause(seconds: float) -> None:
    """Wait. time.sleep waits for a moment of the clock, and raises where clocks are bent (libfaketime)."""
    select.select((), (), (), seconds)


class DescriptorSink:
    """Standard output or error, whatever it is: a terminal, a pipe, a file, a stream into the journal.

    Written to by its number. The lock of a Python stream would be held while its reader does not read, and the
    interpreter's end needs it.
    """

    is_stream = True

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor

    def write(self, message: bytes) -> int:
        """Write some of it. One that does not block is waited for: somebody else has made it so."""
        try:
            return os.write(self._descriptor, message)
        except BlockingIOError:
            waiter = select.poll()
            waiter.register(self._descriptor, select.POLLOUT)
            waiter.poll()
            return 0


class OutboxStream(io.TextIOBase):
    """A text stream into an outbox, to stand where Python and its libraries write complaints of their own."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Have a text written."""
        self._outbox.put(text.encode(errors="backslashreplace"))
        return len(text)


@contextlib.contextmanager
def complaints_never_block(descriptor: int, within_seconds: float) -> Iterator[None]:
    """Have everything that is written to sys.stderr go through an outbox for the length of the context."""
    with lines_never_block(descriptor, "standard error", within_seconds) as stream, contextlib.redirect_stderr(stream):
        yield


@contextlib.contextmanager
def lines_never_block(descriptor: int, name: str, within_seconds: float) -> Iterator[OutboxStream]:
    """Give a text stream that goes through an outbox for the length of the context."""
    outbox = Outbox(DescriptorSink(descriptor, name), _plain_notice)
    try:
        yield OutboxStream(outbox)
    finally:
        outbox.close(within_seconds)


def write_within(seconds: float, descriptor: int, text: str) -> None:
    """Write a text for people to a descriptor, and give up when nobody has read it after so long."""
    outbox = Outbox(DescriptorSink(descriptor, "standard error"), _plain_notice)
    outbox.put(text.encode(errors="backslashreplace"))
    outbox.close(seconds)


def _plain_notice(count: int, reason: str) -> bytes:
    return f"{count} messages were lost while {reason}\n".encode()
