"""systemd's manager over D-Bus: the system's, or a user's own. The one place that knows its methods and errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from jeepney import DBusAddress, HeaderFields, MatchRule, new_method_call
from jeepney.bus_messages import message_bus
from jeepney.io.asyncio import DBusRouter, Proxy
from jeepney.io.common import RouterClosed
from jeepney.wrappers import DBusErrorResponse, unwrap_msg

from local_agent.errors import ManagerUnreachableError
from local_agent.systemd import LineLimits, ScopeRequest, ScopeStatus
from local_agent.systemd.connection import opened
from local_agent.systemd.properties import scope_properties

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

_DBUS = "org.freedesktop.DBus"
_NAME = "org.freedesktop.systemd1"
_MANAGER = DBusAddress("/org/freedesktop/systemd1", _NAME, f"{_NAME}.Manager")
# PID 1 takes seconds to answer when a hundred units start at once (measured by others: up to 25 s)
_TIMEOUT_SECONDS = 30.0
_MOST_AT_ONCE = 8
_REMEMBERED_JOBS = 256
_NOT_LOADED = (f"{_NAME}.NoSuchUnit", f"{_NAME}.LoadFailed", "org.freedesktop.DBus.Error.UnknownObject")
# PID 1 has left the bus for a moment, as it does to execute itself anew (systemctl daemon-reexec)
_AWAY = tuple(f"org.freedesktop.DBus.Error.{name}" for name in ("NoReply", "ServiceUnknown", "NameHasNoOwner"))
_AGAIN_SECONDS = 0.2
_LOOK_SECONDS = 2.0
# KeyError: jeepney 0.8 looks in vain for the reply that it has just given up
_GONE = (ConnectionError, EOFError, RouterClosed, OSError, KeyError)


class DBusScopeManager:
    """A ScopeManager on the bus at `bus` ("SYSTEM", or an address). Connects when first needed, and again when lost."""

    def __init__(self, bus: str, own_slice: str = "", line_limits: LineLimits | None = None) -> None:
        """`own_slice`: scopes elsewhere are another's and not there; "" where every scope is meant.

        `line_limits` lifts journald's limit for its scopes; None where nobody can.
        """
        self._bus = bus
        self._own_slice = own_slice
        self._line_limits = line_limits
        self._router: DBusRouter | None = None
        self._connecting = asyncio.Lock()
        self._systemd = ""  # its unique name: what signals carry as their sender
        self._listener: asyncio.Task[None] | None = None
        self._results: OrderedDict[str, str] = OrderedDict()
        self._waiters: dict[str, asyncio.Future[str]] = {}
        self._places = asyncio.Semaphore(_MOST_AT_ONCE)

    async def reason_against(self, *, thoroughly: bool) -> str:
        """Connect where that is not done yet; thoroughly, hear a word from systemd itself."""
        await self._connected()
        return "the machine is going down" if thoroughly and await self.is_shutting_down() else ""

    async def start_scope(self, request: ScopeRequest) -> None:
        """Start a scope around a process.

        The caller must see for itself that the process is in it: a job may end while its process does.
        """
        body: tuple[Any, ...] = (request.unit, "fail", scope_properties(request), [])
        lifted = self._line_limits.lifted(request.unit) if self._line_limits else contextlib.nullcontext()
        async with self._places:
            try:
                with lifted:
                    result = await self._run_job("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
            except DBusErrorResponse as error:
                raise ManagerUnreachableError(
                    f"systemd does not start {request.unit}: {_in_words(error)}",
                    hint=f"systemctl status {request.unit}",
                ) from error
        if result != "done":
            raise ManagerUnreachableError(
                f"systemd's job for {request.unit} ended as {result!r}", hint="journalctl -b _PID=1"
            )

    async def stop(self, unit: str) -> None:
        """Stop a scope."""
        with _unless_not_loaded():
            await self._run_job("StopUnit", "ss", (unit, "replace"))

    async def kill(self, unit: str, signal: int) -> None:
        """Signal a scope's processes."""
        with _unless_not_loaded():
            await self._call("KillUnit", "ssi", (unit, "all", signal))

    async def status(self, unit: str) -> ScopeStatus | None:
        """Read a scope's ActiveState and Result."""
        try:
            (path,) = await self._call("GetUnit", "s", (unit,))
            address = DBusAddress(path, _NAME, "org.freedesktop.DBus.Properties")
            (lies_in,) = await self._call_at(address, "Get", "ss", (f"{_NAME}.Scope", "Slice"))
            if self._own_slice not in ("", lies_in[1]):
                return None
            (active,) = await self._call_at(address, "Get", "ss", (f"{_NAME}.Unit", "ActiveState"))
            (result,) = await self._call_at(address, "Get", "ss", (f"{_NAME}.Scope", "Result"))
        except DBusErrorResponse as error:
            if error.name in _NOT_LOADED:  # perhaps between two of the questions
                return None
            raise ManagerUnreachableError(f"systemd does not tell how {unit} stands: {_in_words(error)}") from error
        return ScopeStatus(active[1], result[1])

    async def reset_failed(self, unit: str) -> None:
        """Reset a failed scope."""
        with _unless_not_loaded():
            await self._call("ResetFailedUnit", "s", (unit,))
        if self._line_limits:
            self._line_limits.note_end(unit)

    async def is_shutting_down(self) -> bool:
        """Read the manager's SystemState."""
        address = DBusAddress("/org/freedesktop/systemd1", _NAME, "org.freedesktop.DBus.Properties")
        try:
            (state,) = await self._call_at(address, "Get", "ss", (f"{_NAME}.Manager", "SystemState"))
        except DBusErrorResponse:
            return False
        return bool(state[1] == "stopping")

    async def last_lines(self, unit: str, most: int) -> Sequence[str]:  # noqa: ARG002 - the Protocol's
        """Return none: whoever may ask this manager may read the journal of its flow runs."""
        return ()

    async def close(self) -> None:
        """Close the connection."""
        router, self._router = self._router, None
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
            self._listener = None
        if router is not None:
            # jeepney 0.8 and 0.9 have no other way to the connection; one that has broken is not closed yet
            router._conn.writer.transport.abort()  # noqa: SLF001
            with contextlib.suppress(*_GONE):
                await router.__aexit__(None, None, None)

    async def _run_job(self, method: str, signature: str, body: tuple[Any, ...]) -> str:
        (path,) = await self._call(method, signature, body)
        if path in self._results:  # a fast job: its signal came with the reply
            return self._results.pop(path)
        future = self._waiters[path] = asyncio.get_running_loop().create_future()
        try:
            return await self._end_of_job(path, future, method)
        finally:
            self._waiters.pop(path, None)

    async def _end_of_job(self, path: str, future: asyncio.Future[str], method: str) -> str:
        """Return the result of a job. Its signal may be lost when PID 1 executes itself anew: then it is gone."""
        for _ in range(round(_TIMEOUT_SECONDS / _LOOK_SECONDS)):
            await asyncio.wait({future}, timeout=_LOOK_SECONDS)
            if not future.done() and await self._is_queued(path):
                continue
            return future.result() if future.done() else "done"
        raise _no_answer(f"the end of {method}")

    async def _is_queued(self, path: str) -> bool:
        address = DBusAddress(path, _NAME, "org.freedesktop.DBus.Properties")
        try:
            await self._call_at(address, "Get", "ss", (f"{_NAME}.Job", "State"))
        except DBusErrorResponse:
            return False
        return True

    async def _call(self, method: str, signature: str, body: tuple[Any, ...]) -> tuple[Any, ...]:
        return await self._call_at(_MANAGER, method, signature, body)

    async def _call_at(
        self, address: DBusAddress, method: str, signature: str, body: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """Ask, and ask again while PID 1 is away. What it did not answer it may have done all the same.

        Raise DBusErrorResponse for its no.
        """
        for _ in range(round(_TIMEOUT_SECONDS / _AGAIN_SECONDS)):
            try:
                return await self._call_once(address, method, signature, body)
            except DBusErrorResponse as error:
                if error.name not in _AWAY:
                    raise
            await asyncio.sleep(_AGAIN_SECONDS)
        raise _no_answer(method)

    async def _call_once(
        self, address: DBusAddress, method: str, signature: str, body: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        message = new_method_call(address, method, signature, body)
        router = await self._connected()
        try:
            reply = await _in_time(router.send_and_get_reply(message), method)
        except _GONE as error:
            await self.close()
            raise ManagerUnreachableError(
                f"the connection to systemd broke during {method}", hint="systemctl status dbus"
            ) from error
        body_of_reply: tuple[Any, ...] = unwrap_msg(reply)
        return body_of_reply

    async def _connected(self) -> DBusRouter:
        async with self._connecting:
            for _ in range(round(_TIMEOUT_SECONDS / _AGAIN_SECONDS)):
                if self._router is not None or await self._has_connected():
                    break
                await asyncio.sleep(_AGAIN_SECONDS)
            if self._router is None:
                raise _no_answer("the bus")
            return self._router

    async def _has_connected(self) -> bool:
        """Connect whole, or not at all. Return False where PID 1 is away."""
        try:
            await _in_time(self._connect(), "the bus")
        except (*_GONE, DBusErrorResponse) as error:
            await self.close()
            if isinstance(error, DBusErrorResponse) and error.name in _AWAY:
                return False
            raise ManagerUnreachableError(
                f"cannot reach systemd on the bus {self._bus}: {error}", hint="systemctl status dbus"
            ) from error
        except BaseException:
            await self.close()
            raise
        return True

    async def _connect(self) -> None:
        connection = await opened(self._bus)
        router = self._router = DBusRouter(connection)
        jobs = MatchRule(type="signal", interface=f"{_NAME}.Manager", member="JobRemoved")
        owners = MatchRule(type="signal", sender=_DBUS, interface=_DBUS, member="NameOwnerChanged")
        owners.add_arg_condition(0, _NAME)
        signals: asyncio.Queue[Any] = asyncio.Queue()
        self._listener = asyncio.create_task(self._listen(signals))
        # before any job is started, or the signal of a fast one is missed
        for rule in (jobs, owners):
            router.filter(rule, queue=signals)
            await Proxy(message_bus, router).AddMatch(rule)
        (self._systemd,) = await Proxy(message_bus, router).GetNameOwner(_NAME)
        unwrap_msg(await router.send_and_get_reply(new_method_call(_MANAGER, "Subscribe")))

    async def _listen(self, signals: asyncio.Queue[Any]) -> None:
        while True:
            message = await signals.get()
            fields = message.header.fields
            sender, signature = fields.get(HeaderFields.sender), fields.get(HeaderFields.signature)
            if sender == _DBUS:
                self._systemd = message.body[2]
                continue
            if sender != self._systemd or signature != "uoss":
                continue  # any user of the bus can send a signal of this name
            _, path, _, result = message.body
            waiter = self._waiters.get(path)
            if waiter is not None and not waiter.done():
                waiter.set_result(result)
                continue
            self._results[path] = result
            if len(self._results) > _REMEMBERED_JOBS:
                self._results.popitem(last=False)


async def _in_time(answer: asyncio.Future[Any] | Coroutine[Any, Any, Any], what: str) -> Any:  # noqa: ANN401 - D-Bus
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await answer
    except TimeoutError as error:
        raise _no_answer(what) from error


def _no_answer(what: str) -> ManagerUnreachableError:
    return ManagerUnreachableError(
        f"systemd did not answer {what} within {_TIMEOUT_SECONDS:.0f} s", hint="is PID 1 busy? systemctl list-jobs"
    )


@contextlib.contextmanager
def _unless_not_loaded() -> Any:  # noqa: ANN401 - a generator of nothing
    try:
        yield
    except DBusErrorResponse as error:
        if error.name not in _NOT_LOADED:
            raise ManagerUnreachableError(f"systemd refuses: {_in_words(error)}") from error


def _in_words(error: DBusErrorResponse) -> str:
    return str(error.data[0]) if error.data else str(error.name)
