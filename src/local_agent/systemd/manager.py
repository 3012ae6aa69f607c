"""systemd's manager over D-Bus: the system's, or a user's own. What of its answers and errors matters to the agent."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from jeepney.wrappers import DBusErrorResponse

from local_agent.dbus import AwayError, BusError
from local_agent.dbus.calls import MANAGER_PATH, NOT_LOADED, NOT_THERE, describe
from local_agent.dbus.systemd import CALL_SECONDS, LostJobError, Systemd
from local_agent.errors import ManagerUnreachableError
from local_agent.systemd import LineLimits, ScopeRequest, ScopeStatus
from local_agent.units.names import description_of
from local_agent.units.properties import Property, limit_properties, scope_properties

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

_MAX_AT_ONCE = 8
_AGAIN_SECONDS = 0.2
_LOOK_SECONDS = 2.0

Answer = TypeVar("Answer")


class DBusScopeManager:
    """A ScopeManager on the bus at `bus`, an address. Connects when first needed, and again when lost."""

    def __init__(
        self,
        bus: str,
        own_slice: str = "",
        line_limits: LineLimits | None = None,
        answer_seconds: float = CALL_SECONDS,
    ) -> None:
        """`own_slice`: scopes elsewhere are another's and not there; "" where every scope is meant.

        `line_limits` lifts journald's limit for its scopes; None where nobody can.
        """
        self._bus = bus
        self._own_slice = own_slice
        self._line_limits = line_limits
        self._answer_seconds = answer_seconds
        self._systemd: Systemd | None = None
        self._connecting = asyncio.Lock()
        self._places = asyncio.Semaphore(_MAX_AT_ONCE)

    async def reason_against(self, *, thoroughly: bool) -> str:
        """Connect where that is not done yet; thoroughly, hear a word from systemd itself."""
        await self._connected()
        return "the machine is going down" if thoroughly and await self.is_shutting_down() else ""

    async def start_scope(self, request: ScopeRequest) -> None:
        """Start a scope around a process.

        The caller must see for itself that the process is in it: a job may end while its process does.
        """
        body: tuple[Any, ...] = (request.unit, "fail", _properties(request), [])
        lifted = self._line_limits.lifted(request.unit) if self._line_limits else contextlib.nullcontext()
        async with self._places:
            try:
                with lifted:
                    result = await self._run_job("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
            except DBusErrorResponse as error:
                raise ManagerUnreachableError(
                    f"systemd does not start {request.unit}: {describe(error)}",
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
            if self._own_slice not in ("", await self._get(path, "Scope", "Slice")):
                return None
            active_state = await self._get(path, "Unit", "ActiveState")
            result = await self._get(path, "Scope", "Result")
        except DBusErrorResponse as error:
            if error.name in NOT_THERE:  # perhaps between two of the questions
                return None
            raise ManagerUnreachableError(f"systemd does not tell how {unit} stands: {describe(error)}") from error
        return ScopeStatus(active_state, result)

    async def reset_failed(self, unit: str) -> None:
        """Reset a failed scope."""
        with _unless_not_loaded():
            await self._call("ResetFailedUnit", "s", (unit,))
        if self._line_limits:
            self._line_limits.note_end(unit)

    async def is_shutting_down(self) -> bool:
        """Read the manager's SystemState."""
        try:
            return bool(await self._get(MANAGER_PATH, "Manager", "SystemState") == "stopping")
        except DBusErrorResponse:
            return False

    async def last_lines(self, unit: str, most: int) -> Sequence[str]:  # noqa: ARG002 - the Protocol's
        """Return none: whoever may ask this manager may read the journal of its flow runs."""
        return ()

    async def close(self) -> None:
        """Close the connection."""
        self._hang_up()

    def _hang_up(self) -> None:
        systemd, self._systemd = self._systemd, None
        if systemd is not None:
            systemd.close()

    async def _run_job(self, method: str, signature: str, body: tuple[Any, ...]) -> str:
        try:
            return await self._asked(method, lambda systemd: systemd.run_job(method, signature, body))
        except LostJobError as error:
            return await self._end_of_lost(error.path, method)

    async def _end_of_lost(self, path: str, method: str) -> str:
        """Return once a job is gone whose signal went to a connection that was lost."""
        for _ in range(round(self._answer_seconds / _LOOK_SECONDS)):
            if not await self._asked(method, lambda systemd: systemd.is_queued(path)):
                return "done"
            await asyncio.sleep(_LOOK_SECONDS)
        raise self._no_answer(f"the end of {method}")

    async def _call(self, method: str, signature: str, body: tuple[Any, ...]) -> tuple[Any, ...]:
        return await self._asked(method, lambda systemd: systemd.call(method, signature, body, self._answer_seconds))

    async def _get(self, path: str, interface: str, name: str) -> Any:  # noqa: ANN401 - as the property is
        return await self._asked(name, lambda systemd: systemd.get(path, interface, name, self._answer_seconds))

    async def _asked(self, what: str, ask: Callable[[Systemd], Awaitable[Answer]]) -> Answer:
        """Ask, and ask again while PID 1 is away. What it did not answer it may have done all the same.

        Raise DBusErrorResponse for its no, LostJobError as `Systemd.run_job` does.
        """
        for _ in range(round(self._answer_seconds / _AGAIN_SECONDS)):
            systemd = await self._connected()
            try:
                return await ask(systemd)
            except LostJobError:
                raise
            except AwayError:
                await asyncio.sleep(_AGAIN_SECONDS)
            except BusError as error:
                raise self._unreachable(systemd, what) from error
        raise self._no_answer(what)

    def _unreachable(self, systemd: Systemd, what: str) -> ManagerUnreachableError:
        if not systemd.lost.done():
            return self._no_answer(what)
        if self._systemd is systemd:
            self._hang_up()
        return ManagerUnreachableError(f"the connection to systemd broke during {what}", hint="systemctl status dbus")

    async def _connected(self) -> Systemd:
        """Return a connection that is whole, once PID 1 is not away any more. Raise ManagerUnreachableError."""
        try:
            async with asyncio.timeout(self._answer_seconds), self._connecting:
                if self._systemd is not None and self._systemd.lost.done():
                    self._hang_up()
                while self._systemd is None:
                    self._systemd = await self._new_connection()
                return self._systemd
        except TimeoutError as error:
            raise self._no_answer("the bus") from error

    async def _new_connection(self) -> Systemd | None:
        try:
            return await Systemd.connect(self._bus, self._answer_seconds)
        except AwayError:
            await asyncio.sleep(_AGAIN_SECONDS)
            return None
        except BusError as error:
            raise ManagerUnreachableError(
                f"cannot reach systemd on the bus {self._bus}: {error}", hint="systemctl status dbus"
            ) from error

    def _no_answer(self, what: str) -> ManagerUnreachableError:
        return ManagerUnreachableError(
            f"systemd did not answer {what} within {self._answer_seconds:.0f} s",
            hint="is PID 1 busy? systemctl list-jobs",
        )


def _properties(request: ScopeRequest) -> list[Property]:
    whole = scope_properties(
        ("PIDs", ("au", [request.pid])),
        description_of(request.description),
        request.slice,
        request.after,
        request.stop_seconds,
        request.oom_policy,
    )
    return [*whole, *limit_properties(request.limits.in_cgroup())]


@contextlib.contextmanager
def _unless_not_loaded() -> Iterator[None]:
    try:
        yield
    except DBusErrorResponse as error:
        if error.name not in NOT_LOADED:
            raise ManagerUnreachableError(f"systemd refuses: {describe(error)}") from error
