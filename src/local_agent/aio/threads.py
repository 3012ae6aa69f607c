"""Blocking calls off the loop, in threads that never hold up the program's exit."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from local_agent.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")
_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", "Callable[[], Any]"]


class Workers:
    """A few daemon threads that run blocking calls for one event loop.

    concurrent.futures joins its threads at exit, so a request that hangs for 15 s would hold up a stop for 15 s;
    daemon threads are simply left behind.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._under_way = 0  # calls that are waiting or in a thread
        self._under_way_lock = threading.Lock()

    async def run(self, call: Callable[[], _Result]) -> _Result:
        """Run `call` in a thread and return what it returns, or raise what it raises.

        Raise UnavailableError where there is no thread and none can be started.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        self._start_one_if_needed()
        self._jobs.put((loop, future, call))
        return await future

    def close(self) -> None:
        """Let idle threads end; one that is in the middle of a call ends after it."""
        for _ in self._threads:
            self._jobs.put(None)

    def _start_one_if_needed(self) -> None:
        with self._under_way_lock:
            self._under_way += 1
            needed = self._under_way > len(self._threads)
        if needed and len(self._threads) < self._most:
            self._start_one()

    def _start_one(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the kernel allows no more; what is asked waits for those that are there
            if not self._threads:
                with self._under_way_lock:
                    self._under_way -= 1
                raise UnavailableError(
                    f"no thread can be started: {error}", hint="TasksMax= and LimitNPROC= in the unit; ulimit -u"
                ) from error
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, call = job
            try:
                settle, value = future.set_result, call()
            except BaseException as error:
                settle, value = future.set_exception, error
            with self._under_way_lock:
                self._under_way -= 1  # before anybody hears of it: whoever asks next finds this thread free
            _tell(loop, future, settle, value)


def _tell(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], settle: Callable[[Any], None], value: object
) -> None:
    def settle_unless_given_up() -> None:
        if not future.done():
            settle(value)

    try:
        loop.call_soon_threadsafe(settle_unless_given_up)
    except RuntimeError:  # the loop is closed: the agent has stopped and nobody waits any more
        return
