"""What the broker does for a caller, each time after a look at whose it is."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any

from jeepney.wrappers import DBusErrorResponse

from local_agent.broker.callers import Caller, held_for
from local_agent.broker.enclosure import check_enclosed, check_own
from local_agent.broker.journal import last_lines
from local_agent.broker.line_limits import LineLimits
from local_agent.broker.protocol import Code, RefusedError, Request, Verb
from local_agent.broker.turns import Turns
from local_agent.dbus import SYSTEM_BUS, BusError
from local_agent.dbus.calls import MANAGER_PATH, NOT_LOADED, NOT_THERE, describe
from local_agent.dbus.systemd import Systemd
from local_agent.units.names import identifier_of, instance_of, scope_of, service_of, slice_of
from local_agent.units.properties import AT_START_ONLY, scope_properties

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from local_agent.broker.callers import Process
    from local_agent.units.properties import Property

Answer = dict[str, Any]

_TAILS_EACH, _TAILS_TOGETHER = 2, 6  # each is a process, and the broker's unit has few
_STARTS_EACH, _STARTS_TOGETHER = 8, 64  # PID 1 takes seconds to answer when a hundred units start at once
# all that a start may take is less than the agent waits for its answer, which is 45 s; the rest is in dbus/systemd.py
_TURN_SECONDS = 15.0
_READY_SECONDS, _READY_LOOK_SECONDS = 3.0, 0.1
_JOB_SECONDS = 8.0
_PROOF_SECONDS = 20.0
_PIDFDS_SINCE = 257
_NO_JOB = 0


async def _to_systemd() -> Systemd:
    return await Systemd.connect(SYSTEM_BUS, passes_descriptors=True)


class Operations:
    """Carries out requests, over one connection to the system bus that is made when it is first needed."""

    def __init__(self, connect: Callable[[], Awaitable[Systemd]] = _to_systemd) -> None:
        self._connect = connect
        self._line_limits = LineLimits()
        self._bus: Systemd | None = None
        self._takes_pidfds = False
        self._connecting = asyncio.Lock()
        self._starts = Turns(each=_STARTS_EACH, together=_STARTS_TOGETHER)
        self._tails = Turns(each=_TAILS_EACH, together=_TAILS_TOGETHER)
        self._by_verb: dict[Verb, Callable[[Systemd, Caller, Request], Awaitable[Answer]]] = {
            Verb.START: self._start,
            Verb.STOP: self._stop,
            Verb.KILL: self._kill,
            Verb.RESET_FAILED: self._reset_failed,
            Verb.TAIL: self._tail,
        }

    async def prove(self, caller: Caller) -> None:
        """Have systemd say that a caller is the main process of its service. Raise RefusedError.

        Others are there for moments: flow runs that wait to be enclosed, the client that asks for a reload. They have
        the user of flow runs that are enclosed already, which the kernel may let into them.
        """
        with _refusals():
            async with asyncio.timeout(_PROOF_SECONDS):
                await _check_main(await self._connected(), caller)

    async def carry_out(self, caller: Caller, request: Request) -> Answer:
        """Do what a caller that was proved asks, and return what `ok` says. Raise RefusedError."""
        with _refusals():
            return await self._by_verb[request.verb](await self._connected(), caller, request)

    def close(self) -> None:
        """Close the connection to the bus."""
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    async def _connected(self) -> Systemd:
        async with self._connecting:
            if self._bus is not None and self._bus.lost.done():
                self.close()
            if self._bus is None:
                self._bus = await self._connect()
                self._takes_pidfds = await _systemd_version(self._bus) >= _PIDFDS_SINCE
            return self._bus

    async def _start(self, bus: Systemd, caller: Caller, request: Request) -> Answer:
        async with self._starts.turn(caller.instance, _TURN_SECONDS):
            await _until_ready(bus, caller)
            # looked at when nothing is waited for any more: meanwhile its pid may become a stranger's
            unlimited = self._line_limits.lifted(scope_of(request.flow_run))
            with held_for(caller, request.pid) as process, unlimited:
                await self._enclose(bus, caller, request, process)
        return {}

    async def _enclose(self, bus: Systemd, caller: Caller, request: Request, process: Process) -> None:
        unit = scope_of(request.flow_run)
        # by a pid alone a stranger may be meant by the time that systemd moves it, whom no limit should hit
        later = [] if self._takes_pidfds else [one for one in request.properties if one[0] != AT_START_ONLY]
        properties = [one for one in self._scope_properties(caller, request, process) if one not in later]
        try:
            result = await bus.run_short_job(
                "StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "fail", properties, []), _JOB_SECONDS
            )
        except DBusErrorResponse:
            await self._own(bus, caller, request)  # says whose it is, where its name is taken
            raise
        if result != "done":
            raise RefusedError(Code.REFUSED, f"systemd's job for {unit} ended as {result!r}")
        cgroup = check_enclosed(process, unit)
        if not self._takes_pidfds:
            check_own(cgroup, unit, caller.uid)
        if later:
            await bus.call("SetUnitProperties", "sba(sv)", (unit, True, later))

    def _scope_properties(self, caller: Caller, request: Request, process: Process) -> list[Property]:
        whole: Property = ("PIDFDs", ("ah", [process.pidfd])) if self._takes_pidfds else ("PIDs", ("au", [process.pid]))
        lies_in, after = slice_of(caller.instance), service_of(caller.instance)
        made = scope_properties(whole, request.description, lies_in, after, request.stop_seconds, request.oom_policy)
        return [*made, *request.properties]

    async def _stop(self, bus: Systemd, caller: Caller, request: Request) -> Answer:
        if await self._safe(bus, caller, request):
            await _unless_gone(bus.run_job("StopUnit", "ss", (scope_of(request.flow_run), "replace")))
        return {}

    async def _kill(self, bus: Systemd, caller: Caller, request: Request) -> Answer:
        if await self._safe(bus, caller, request):
            await _unless_gone(bus.call("KillUnit", "ssi", (scope_of(request.flow_run), "all", request.signal)))
        return {}

    async def _reset_failed(self, bus: Systemd, caller: Caller, request: Request) -> Answer:
        if await self._own(bus, caller, request):
            await _unless_gone(bus.call("ResetFailedUnit", "s", (scope_of(request.flow_run),)))
        self._line_limits.note_end(scope_of(request.flow_run))
        return {}

    async def _tail(self, bus: Systemd, caller: Caller, request: Request) -> Answer:
        """The lines of the caller's own user alone: any user can write under any identifier."""
        await self._own(bus, caller, request)
        async with self._tails.turn(caller.instance, _TURN_SECONDS):
            return {"lines": await last_lines(identifier_of(request.flow_run), caller.uid, request.lines)}

    async def _own(self, bus: Systemd, caller: Caller, request: Request) -> str:
        """Return the object path of the caller's scope, "" where it is not loaded. Raise RefusedError for another's."""
        unit = scope_of(request.flow_run)
        try:
            (path,) = await bus.call("GetUnit", "s", (unit,))
            lies_in = await bus.get(path, "Scope", "Slice")
        except DBusErrorResponse as error:
            if error.name not in NOT_THERE:
                raise
            return ""
        if lies_in != slice_of(caller.instance):
            owner = instance_of(lies_in)
            whose = f"instance {owner}" if owner else "no instance of local-agent"
            raise RefusedError(Code.NOT_YOURS, f"{unit} is of {whose}: it lies in {lies_in}")
        return str(path)

    async def _safe(self, bus: Systemd, caller: Caller, request: Request) -> str:
        """The same for what hits every process of a scope: below 257 one may be a stranger, meant by its pid."""
        path = await self._own(bus, caller, request)
        if path and not self._takes_pidfds:
            unit = scope_of(request.flow_run)
            check_own(await _cgroup_of(bus, path), unit, caller.uid)
        return path


async def _until_ready(bus: Systemd, caller: Caller) -> None:
    """Return once the caller's service is up and has no job, which a scope's start job would wait for.

    While it waits it names a process by its pid, and at the wish of who lets it wait. Raise RefusedError.
    """
    try:
        async with asyncio.timeout(_READY_SECONDS):
            while not await _is_ready(bus, caller.service_path):  # noqa: ASYNC110 - it is systemd's state, not ours
                await asyncio.sleep(_READY_LOOK_SECONDS)
    except TimeoutError as error:
        service = service_of(caller.instance)
        raise RefusedError(Code.NOT_NOW, f"{service} is not active, or has a job: see systemctl list-jobs") from error


async def _is_ready(bus: Systemd, service_path: str) -> bool:
    state, (job, _) = await asyncio.gather(
        bus.get(service_path, "Unit", "ActiveState"), bus.get(service_path, "Unit", "Job")
    )
    return bool(state == "active" and job == _NO_JOB)


async def _cgroup_of(bus: Systemd, path: str) -> str:
    """Return the cgroup of a scope, given its object; "" where it has none any more."""
    try:
        return str(await bus.get(path, "Scope", "ControlGroup"))
    except DBusErrorResponse as error:
        if error.name not in NOT_THERE:
            raise
        return ""


async def _check_main(bus: Systemd, caller: Caller) -> None:
    service = service_of(caller.instance)
    (caller.service_path,) = await bus.call("GetUnit", "s", (service,))
    if await bus.get(caller.service_path, "Service", "MainPID") != caller.process.pid:
        raise RefusedError(Code.NOT_ALLOWED, f"process {caller.process.pid} is not the main process of {service}")


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except BusError as error:
        raise RefusedError(Code.NO_ANSWER, str(error)) from error
    except TimeoutError as error:
        raise RefusedError(Code.NOT_NOW, "others of this instance take their time; ask again") from error
    except DBusErrorResponse as error:
        raise RefusedError(Code.REFUSED, f"systemd refuses: {describe(error)}") from error


async def _systemd_version(bus: Systemd) -> int:
    version = re.match(r"\d+", await bus.get(MANAGER_PATH, "Manager", "Version"))
    return int(version[0]) if version else 0


async def _unless_gone(call: Awaitable[object]) -> None:
    try:
        await call
    except DBusErrorResponse as error:
        if error.name not in NOT_LOADED:
            raise
