"""systemd's manager on a bus, in an asyncio loop: calls, properties, and jobs with the ends that systemd tells of."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jeepney import MatchRule
from jeepney.bus_messages import message_bus
from jeepney.wrappers import DBusErrorResponse

from local_agent.dbus import BusError
from local_agent.dbus.aio import AsyncBus
from local_agent.dbus.calls import SYSTEMD, describe, manager_call, property_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from jeepney import Message

    from local_agent.dbus.frames import Incoming

_BUS = "org.freedesktop.DBus"
# PID 1 takes seconds to answer when a hundred units start at once (measured by others: up to 25 s)
CALL_SECONDS = 30.0
# of a start that is wanted now or not at all, and of taking it back
_SHORT_CALL_SECONDS = 12.0
_CANCEL_SECONDS = 4.0
_LOOK_SECONDS = 2.0
_MAX_REMEMBERED = 4096
_OWNER_CHANGE = 3  # name, old owner, new owner
_JOB_REMOVED = 4  # number, path, unit, result


@dataclass(frozen=True, slots=True)
class Job:
    """A job that systemd has queued: its object's path, and a future that is done with its result."""

    path: str
    end: asyncio.Future[str]


class LostJobError(BusError):
    """The connection was lost while a job went on; `path` is its object."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


class Jobs:
    """The jobs that are waited for. A fast one ends before the answer to its start has been read."""

    def __init__(self) -> None:
        self._starting = 0
        self._ended: dict[str, str] = {}  # while a job is being started: its end may have come already
        self._waiters: dict[str, asyncio.Future[str]] = {}

    def note_end(self, path: str, result: str) -> None:
        """Take in the end of a job, of whomever."""
        waiter = self._waiters.get(path)
        if waiter is not None and not waiter.done():
            waiter.set_result(result)
        elif self._starting:
            self._ended[path] = result
            if len(self._ended) > _MAX_REMEMBERED:
                del self._ended[next(iter(self._ended))]

    @contextlib.asynccontextmanager
    async def started_by(self, call: Awaitable[tuple[Any, ...]]) -> AsyncIterator[Job]:
        """Await the call that starts a job, and give the job."""
        path, waiter = await self._begun(call)
        try:
            yield Job(path, waiter)
        finally:
            del self._waiters[path]

    async def _begun(self, call: Awaitable[tuple[Any, ...]]) -> tuple[str, asyncio.Future[str]]:
        self._starting += 1
        try:
            (path,) = await call
            waiter = self._waiters[path] = asyncio.get_running_loop().create_future()
            if path in self._ended:
                waiter.set_result(self._ended.pop(path))
        finally:
            self._starting -= 1
            if not self._starting:
                self._ended.clear()
        return path, waiter


class Systemd:
    """A connection to systemd's manager. When it is lost `lost` is done: all that remains is to close it."""

    def __init__(self) -> None:
        self._owner: str | None = None  # the unique name of systemd, which its signals carry; "" while it is away
        self._jobs = Jobs()
        self._bus: AsyncBus

    @classmethod
    async def connect(cls, address: str, seconds: float = CALL_SECONDS, *, passes_descriptors: bool = False) -> Systemd:
        """Connect, and have systemd tell of its jobs. Raise BusError; AwayError where systemd has left the bus."""
        systemd = cls()
        systemd._bus = await AsyncBus.connect(
            address, systemd._take_signal, seconds, passes_descriptors=passes_descriptors
        )
        try:
            async with asyncio.timeout(seconds):
                await systemd._subscribe()
        except TimeoutError as error:
            systemd.close()
            raise BusError(f"systemd does not answer on the bus within {seconds:.0f} s") from error
        except BaseException:
            systemd.close()
            raise
        return systemd

    @property
    def lost(self) -> asyncio.Future[str]:
        """Done with the reason once the connection is of no more use."""
        return self._bus.lost

    def close(self) -> None:
        """Close the connection."""
        self._bus.close()

    async def call(
        self, method: str, signature: str = "", body: tuple[Any, ...] = (), seconds: float = CALL_SECONDS
    ) -> tuple[Any, ...]:
        """Call a method of the manager. Raise BusError, or DBusErrorResponse for systemd's no."""
        return await self._bus.ask(manager_call(method, signature, body), seconds)

    async def get(self, path: str, interface: str, name: str, seconds: float = CALL_SECONDS) -> Any:  # noqa: ANN401 - as the property is
        """Return a property of an object of systemd. Raise as `call` does."""
        ((_, value),) = await self._bus.ask(property_call(path, interface, name), seconds)
        return value

    async def run_job(self, method: str, signature: str, body: tuple[Any, ...]) -> str:
        """Call a method that starts a job, and return the job's result when it is over. Raise as `call` does.

        Raise LostJobError where the connection is lost meanwhile.
        """
        async with self._jobs.started_by(self.call(method, signature, body)) as job:
            return await self._end_of(job, f"the end of {method}", CALL_SECONDS)

    async def run_short_job(self, method: str, signature: str, body: tuple[Any, ...], seconds: float) -> str:
        """The same for a job that is wanted now or not at all: where its end does not come in time it is cancelled.

        Where systemd's reply does not come in time the job is cancelled as soon as it comes. Raise as `run_job` does.
        """
        call = manager_call(method, signature, body)
        async with self._jobs.started_by(self._bus.ask(call, _SHORT_CALL_SECONDS, late=self._cancel_late)) as job:
            with contextlib.suppress(_TooLateError):
                return await self._end_of(job, f"the end of {method}", seconds)
            with contextlib.suppress(DBusErrorResponse):  # it has just ended
                await self._bus.ask(_cancelling(job.path), _CANCEL_SECONDS)
            return await self._end_of(job, f"the end of {method}, which was cancelled", _CANCEL_SECONDS)

    async def is_queued(self, path: str) -> bool:
        """Tell whether a job goes on. Raise BusError."""
        try:
            await self.get(path, "Job", "State", _LOOK_SECONDS)
        except DBusErrorResponse:
            return False
        return True

    async def _end_of(self, job: Job, what: str, seconds: float) -> str:
        """Return a job's result. Its signal may be lost where PID 1 executes itself anew: then the job is gone."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (rest := until - loop.time()) > 0:
            await asyncio.wait(
                {job.end, self.lost}, timeout=min(rest, _LOOK_SECONDS), return_when=asyncio.FIRST_COMPLETED
            )
            if not job.end.done() and self.lost.done():
                raise LostJobError(self.lost.result(), job.path)
            if job.end.done() or await self._is_gone(job):
                return job.end.result() if job.end.done() else "done"
        raise _TooLateError(f"systemd did not answer {what} within {seconds:.0f} s")

    async def _is_gone(self, job: Job) -> bool:
        try:
            return not await self.is_queued(job.path)
        except BusError:
            return False

    def _cancel_late(self, body: tuple[Any, ...]) -> None:
        """A job whose starter was told that there is no answer must not begin after that."""
        with contextlib.suppress(BusError):
            self._bus.tell(_cancelling(body[0]))

    async def _subscribe(self) -> None:
        jobs = MatchRule(type="signal", sender=SYSTEMD, interface=f"{SYSTEMD}.Manager", member="JobRemoved")
        owners = MatchRule(type="signal", sender=_BUS, interface=_BUS, member="NameOwnerChanged")
        owners.add_arg_condition(0, SYSTEMD)
        try:
            for rule in (jobs, owners):  # before any job is started, or the signal of a fast one is missed
                await self._bus.ask(message_bus.AddMatch(rule), CALL_SECONDS)
            (owner,) = await self._bus.ask(message_bus.GetNameOwner(SYSTEMD), CALL_SECONDS)
            if self._owner is None:  # no newer one was told while this answer waited to be looked at
                self._owner = str(owner)
            await self.call("Subscribe")
        except DBusErrorResponse as error:
            raise BusError(f"the bus refuses: {describe(error)}") from error

    def _take_signal(self, signal: Incoming) -> None:
        """Any user can send signals that look like these: they are believed from the bus, and from who is systemd."""
        with contextlib.suppress(BusError):
            if signal.sender == _BUS and signal.member == "NameOwnerChanged":
                self._note_owner(signal.message().body)
            elif self._owner and signal.sender == self._owner and signal.member == "JobRemoved":
                self._note_job(signal.message().body)

    def _note_owner(self, body: tuple[Any, ...]) -> None:
        if len(body) == _OWNER_CHANGE and body[0] == SYSTEMD:
            self._owner = str(body[2])

    def _note_job(self, body: tuple[Any, ...]) -> None:
        if len(body) == _JOB_REMOVED:
            self._jobs.note_end(str(body[1]), str(body[3]))


class _TooLateError(BusError):
    """A job's end was not told in time."""


def _cancelling(job: str) -> Message:
    """Given the path of a job, .../job/123, return what cancels it."""
    return manager_call("CancelJob", "u", (int(job.rpartition("/")[2]),))
