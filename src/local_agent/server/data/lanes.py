"""Three lanes for what is read, so that nobody who asks for little waits behind somebody who asks for much.

A document whose last answer took less than 2 ms (Pace) is read in the loop, on the writer's own connection. One that
takes longer than 10 ms there is stopped and read again in the long lane: a thread with a connection of its own, that is
nice to the others. Those that are known to take up to 100 ms have another such thread, the middle lane. While the long
lane has work, what nobody knows yet starts there, so that a stranger's hundred different documents cost the loop
nothing.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TypeVar

from local_agent.server.bounds.costs import TooCostlyError
from local_agent.server.data.reads import Reads
from local_agent.server.input.refusals import OutOfTimeError

_Answer = TypeVar("_Answer")

# More than that many would not have their turn in time.
_MAX_WAITING = 16

# The kernel gives a thread this nice half of what it gives the loop, if that wants it. More would let the agent's own
# larger reads run out of time on a machine whose flow runs take every processor.
_NICE = 3


class Lane:
    """Reads one after another in a thread of its own."""

    def __init__(self, name: str, connect: Callable[[], Reads]) -> None:
        """Given the thread's name, and what opens the lane's connection."""
        self._reads = connect()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether a read is under way or waits."""
        return self._waiting > 0

    def read(self, work: Callable[[Reads], _Answer], seconds: float) -> _Answer:
        """Do a read and return what it returns. Raise OutOfTimeError after so many seconds, waiting included.

        Raise TooCostlyError if too many others wait.
        """
        until = time.monotonic() + seconds
        answer: Future[_Answer] = Future()
        with self._lock:
            if self._waiting >= _MAX_WAITING:
                raise TooCostlyError(f"The API is busy with {self._waiting} long queries: ask again later, or for less")
            self._waiting += 1
        self._jobs.put(lambda: self._do(work, until, answer))
        try:
            # The read stops itself; the margin is for the thread to come to it.
            return answer.result(seconds + 0.1)
        except FutureTimeoutError:
            answer.cancel()
            raise OutOfTimeError from None

    def _work(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while (job := self._jobs.get()) is not None:
            job()
            with self._lock:
                self._waiting -= 1
        self._reads.close()

    def _do(self, work: Callable[[Reads], _Answer], until: float, answer: Future[_Answer]) -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            with self._reads.within(until - time.monotonic()):
                answer.set_result(work(self._reads))
        except BaseException as error:
            answer.set_exception(error)

    def close(self) -> None:
        """End the thread, after what waits for it."""
        self._jobs.put(None)
        self._thread.join()
