"""What the broker does for a caller, each time after a look at whose it is."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from jeepney.wrappers import DBusErrorResponse

from local_agent.broker.bus import SYSTEMD, Bus, BusError
from local_agent.broker.callers import Caller, held_for
from local_agent.broker.journal import last_lines
from local_agent.broker.names import identifier_of, is_in, scope_of, service_of, slice_of
from local_agent.broker.protocol import Code, RefusedError, Request, Verb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local_agent.broker.callers import Process

Answer = dict[str, Any]

_USEC = 1_000_000
_MOST_TAILS_AT_ONCE = 4  # each is a process, and the broker's unit has few
_MOST_STARTS_AT_ONCE = 8  # PID 1 takes seconds to answer when a hundred units start at once
_PIDFDS_SINCE = 257
_NOT_LOADED = (f"{SYSTEMD}.NoSuchUnit", f"{SYSTEMD}.LoadFailed")


class Operations:
    """Carries out requests, over one connection to the system bus that is made when it is first needed."""

    def __init__(self, connect: Callable[[], Awaitable[Bus]] = Bus.connect) -> None:
        self._connect = connect
        self._bus: Bus | None = None
        self._takes_pidfds = False
        self._connecting = asyncio.Lock()
        self._places = asyncio.Semaphore(_MOST_STARTS_AT_ONCE)
        self._tails = asyncio.Semaphore(_MOST_TAILS_AT_ONCE)
        self._by_verb: dict[Verb, Callable[[Bus, Caller, Request], Awaitable[Answer]]] = {
            Verb.START: self._start,
            Verb.STOP: self._stop,
            Verb.KILL: self._kill,
            Verb.STATUS: self._status,
            Verb.RESET_FAILED: self._reset_failed,
            Verb.SET: self._set,
            Verb.FREEZE: self._freeze,
            Verb.THAW: self._thaw,
            Verb.TAIL: self._tail,
            Verb.SHUTTING_DOWN: self._shutting_down,
        }

    async def carry_out(self, caller: Caller, request: Request) -> Answer:
        """Do what a caller asks, and return what `ok` says. Raise RefusedError."""
        try:
            bus = await self._connected()
            await _check_main(bus, caller)
            return await self._by_verb[request.verb](bus, caller, request)
        except BusError as error:
            raise RefusedError(Code.NO_ANSWER, str(error)) from error
        except DBusErrorResponse as error:
            raise RefusedError(Code.REFUSED, f"systemd refuses: {_in_words(error)}") from error

    def close(self) -> None:
        """Close the connection to the bus."""
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    async def _connected(self) -> Bus:
        async with self._connecting:
            if self._bus is not None and self._bus.lost.done():
                self.close()
            if self._bus is None:
                self._bus = await self._connect()
                self._takes_pidfds = await _systemd_version(self._bus) >= _PIDFDS_SINCE
            return self._bus

    async def _start(self, bus: Bus, caller: Caller, request: Request) -> Answer:
        unit = scope_of(request.flow_run)
        # looked at when it is its turn: while it waits its pid may become a stranger's
        async with self._places:
            with held_for(caller, request.pid) as process:
                body: tuple[Any, ...] = (unit, "fail", self._scope_properties(caller, request, process), [])
                result = await bus.run_job("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
                if result != "done":
                    raise RefusedError(Code.REFUSED, f"systemd's job for {unit} ended as {result!r}")
                _check_enclosed(process, unit)
        return {}

    def _scope_properties(self, caller: Caller, request: Request, process: Process) -> list[Any]:
        whole = ("PIDFDs", ("ah", [process.pidfd])) if self._takes_pidfds else ("PIDs", ("au", [process.pid]))
        return [
            whole,
            ("Description", ("s", request.description)),
            ("Slice", ("s", slice_of(caller.instance))),
            # so that at shutdown the scope ends first, and the agent sees and reports it
            ("After", ("as", [service_of(caller.instance)])),
            ("TimeoutStopUSec", ("t", int(request.stop_seconds * _USEC))),
            # the kernel kills one process, systemd stops the rest with SIGTERM: the shim writes down what happened
            ("OOMPolicy", ("s", "stop")),
            *((f"{kind}Accounting", ("b", True)) for kind in ("CPU", "Memory", "IO", "Tasks")),
            *request.properties,
        ]

    async def _stop(self, bus: Bus, caller: Caller, request: Request) -> Answer:
        if await self._own(bus, caller, request):
            await _unless_gone(bus.run_job("StopUnit", "ss", (scope_of(request.flow_run), "replace")))
        return {}

    async def _kill(self, bus: Bus, caller: Caller, request: Request) -> Answer:
        if await self._own(bus, caller, request):
            await _unless_gone(bus.call("KillUnit", "ssi", (scope_of(request.flow_run), "all", request.signal)))
        return {}

    async def _reset_failed(self, bus: Bus, caller: Caller, request: Request) -> Answer:
        if await self._own(bus, caller, request):
            await _unless_gone(bus.call("ResetFailedUnit", "s", (scope_of(request.flow_run),)))
        return {}

    async def _set(self, bus: Bus, caller: Caller, request: Request) -> Answer:
        if await self._own(bus, caller, request):
            body = (scope_of(request.flow_run), True, list(request.properties))
            await _unless_gone(bus.call("SetUnitProperties", "sba(sv)", body))
        return {}

    async def _freeze(self, bus: Bus, caller: Caller, request: Request) -> Answer:
        if await self._own(bus, caller, request):
            await _unless_gone(bus.call("FreezeUnit", "s", (scope_of(request.flow_run),)))
        return {}

    async def _thaw(self, bus: Bus, caller: Caller, request: Request) -> Answer:
        if await self._own(bus, caller, request):
            await _unless_gone(bus.call("ThawUnit", "s", (scope_of(request.flow_run),)))
        return {}

    async def _status(self, bus: Bus, caller: Caller, request: Request) -> Answer:
        path = await self._own(bus, caller, request)
        try:
            active_state = await bus.get(path, "Unit", "ActiveState") if path else ""
            result = await bus.get(path, "Scope", "Result") if path else ""
        except DBusErrorResponse:  # unloaded between two of the questions
            return {"status": None}
        return {"status": {"active_state": active_state, "result": result} if path else None}

    async def _tail(self, bus: Bus, caller: Caller, request: Request) -> Answer:
        """The lines of the caller's own user alone: any user can write under any identifier."""
        await self._own(bus, caller, request)
        async with self._tails:
            return {"lines": await last_lines(identifier_of(request.flow_run), caller.uid, request.lines)}

    async def _shutting_down(self, bus: Bus, _caller: Caller, _request: Request) -> Answer:
        state = await bus.get("/org/freedesktop/systemd1", "Manager", "SystemState")
        return {"shutting_down": state == "stopping"}

    async def _own(self, bus: Bus, caller: Caller, request: Request) -> str:
        """Return the object path of the caller's scope, "" where it is not loaded. Raise RefusedError for another's."""
        unit = scope_of(request.flow_run)
        try:
            (path,) = await bus.call("GetUnit", "s", (unit,))
            lies_in = await bus.get(path, "Scope", "Slice")
        except DBusErrorResponse:
            return ""
        if lies_in != slice_of(caller.instance):
            raise RefusedError(
                Code.NOT_YOURS, f"{unit} lies in {lies_in}, not in the slice of instance {caller.instance}"
            )
        return str(path)


async def _check_main(bus: Bus, caller: Caller) -> None:
    """Raise RefusedError unless the caller is its service's main process.

    Others are there for moments: flow runs that wait to be enclosed, the client that asks for a reload. They have the
    user of flow runs that are enclosed already, which the kernel may let into them.
    """
    if caller.is_main:
        return
    service = service_of(caller.instance)
    (path,) = await bus.call("GetUnit", "s", (service,))
    if await bus.get(path, "Service", "MainPID") != caller.process.pid:
        raise RefusedError(Code.NOT_ALLOWED, f"process {caller.process.pid} is not the main process of {service}")
    caller.is_main = True


def _check_enclosed(process: Process, unit: str) -> None:
    """Raise RefusedError unless the very process that was looked at is in its scope now.

    Where only a pid could be named, it may have become a stranger's meanwhile; so the scope is not stopped.
    """
    if not is_in(process.cgroup(), unit):
        raise RefusedError(
            Code.PROCESS_GONE,
            f"process {process.pid} ended while it was moved into {unit}; look at what is in there before stopping it",
        )


async def _systemd_version(bus: Bus) -> int:
    version = re.match(r"\d+", await bus.get("/org/freedesktop/systemd1", "Manager", "Version"))
    return int(version[0]) if version else 0


async def _unless_gone(call: Awaitable[object]) -> None:
    try:
        await call
    except DBusErrorResponse as error:
        if error.name not in _NOT_LOADED:
            raise


def _in_words(error: DBusErrorResponse) -> str:
    return str(error.data[0]) if error.data else str(error.name)
