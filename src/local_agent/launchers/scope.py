"""Flow runs in systemd scopes: each with a cgroup, limits, accounting and a name that an admin can stop."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from local_agent.errors import LauncherUnavailableError, LocalAgentError, ManagerUnreachableError, NoAnswerError
from local_agent.launchers import evidence
from local_agent.launchers.handle import handle_in
from local_agent.launchers.lost import leftovers_without_record, shims_without_record
from local_agent.launchers.output import LAST_LINES
from local_agent.launchers.run import ShimRun, may_live, traces_left
from local_agent.launchers.shim import Shim, keep_descriptors
from local_agent.launchers.starter import Conditions
from local_agent.launchers.stray import end_session, place_outside
from local_agent.limits import Limits
from local_agent.linux import cgroup
from local_agent.linux.procfs import cgroup_of
from local_agent.systemd import ScopeRequest
from local_agent.units.names import described, new_id_of_nobody, scope_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from collections.abc import Set as AbstractSet

    from local_agent.aio.clock import Clock
    from local_agent.launchers import LiveRun, Lost
    from local_agent.launchers.belongings import Belongings
    from local_agent.launchers.output import Output
    from local_agent.launchers.parts import Parts
    from local_agent.linux.cgroup import Figures
    from local_agent.model import Child, End, ProcessIdentity, Record
    from local_agent.systemd import ScopeManager

_STOP_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_LOOKS = 3
_AGAIN_SECONDS = 0.3
_AWAY_SECONDS = 10.0
_ASKING_TASKS, _ASKING_SECONDS = 64, 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance's scopes lie, and behind which unit they are ordered ("" for none).

    Behind its service a scope is stopped before it at shutdown, so that the agent sees and reports the end.
    """

    slice: str
    after: str


class ScopeLauncher:
    """Starts shims and moves each into a scope before its gate opens."""

    name = "scope"
    ends_with = ""
    outlives_reboot = False

    def __init__(
        self, manager: ScopeManager, place: Place, parts: Parts, oom_policy: Callable[[], str] = lambda: "stop"
    ) -> None:
        keep_descriptors()
        self._manager = manager
        self._place = place
        self._parts = parts
        self._files = parts.files
        self._output = parts.output
        self._clock = parts.clock
        self._oom_policy = oom_policy

    def room(self, held: int) -> str:
        """Look at this machine."""
        return self._parts.room.reason_against(held)

    def note_taken(self) -> None:
        """Count it."""
        self._parts.room.note_taken()

    async def reason_against(self, *, in_doubt: bool) -> str:
        """Look at this machine's limits, at the output and at systemd."""
        shortage = await self._files.disk.run(self._parts.shortage)
        return shortage or await self._manager.reason_against(thoroughly=in_doubt)

    def lost(self, known: AbstractSet[str], *, leftovers: bool) -> Sequence[Lost]:
        """Look for shims of the agent's folder, and for scopes of its slice that have none."""
        shims = shims_without_record(self._files.folder, known)
        ids = known | {shim.id for shim in shims}
        return (*shims, *(leftovers_without_record(self._place.slice, ids) if leftovers else ()))

    async def shut_down(self, grace_seconds: float) -> None:
        """Scopes are systemd's, which ends them itself where it goes down."""

    async def launch(self, record: Record, child: Child, limits: Limits) -> LiveRun:
        """Start a shim at its gate and a scope around it."""
        base, child = self._files.base_of(record.id), self._files.prepared(record, child)
        with self._output.open(record, base) as descriptor:
            conditions = Conditions(record.nonce, own_cgroup=True, nice=limits.nice, open_files=self._parts.open_files)
            shim = await Shim.launch(self._parts.starter, base, child, descriptor, conditions)
        try:
            await self._enclose(shim.identity, record, limits)
        except BaseException:
            await shim.abandon()
            evidence.remove_exit_record(base)
            raise
        return self._run(shim, record, limits)

    def may_live(self, record: Record) -> bool:
        """No process outlives its boot."""
        return may_live(record)

    async def adopt(self, record: Record) -> LiveRun | End:
        """Take up a shim that is the recorded process, in the recorded scope. One that has left it is ended."""
        process, unit = handle_in(record).process, handle_in(record).unit
        if process is not None and place_outside(process, unit):
            end_session(process)
        if process is None or not _is_in(process.pid, unit):
            return await self._end_of(record)
        shim = Shim.adopt(process)
        if shim is None:
            return await self._end_of(record)
        self._output.resume(record, self._files.base_of(record.id))
        return self._run(shim, record, record.limits)

    async def _end_of(self, record: Record) -> End:
        """Put together how it ended, and stop what is left of its scope."""
        base, unit = self._files.base_of(record.id), scope_of(record.id)
        await end_scope(self._manager, unit)
        status = await self._manager.status(unit)
        traces = replace(traces_left(record, base, self._output), result=status.result if status else "")
        return await _with_last_lines(self._manager, unit, evidence.conclude(traces))

    @contextlib.asynccontextmanager
    async def enclosed(self, pid: int) -> AsyncIterator[None]:
        """Have a process that is no flow run in a scope for the context's length; what is in it ends with that.

        Its name is a flow run's that there is not: the broker makes scopes of no other kind. Raise
        LauncherUnavailableError.
        """
        unit = scope_of(new_id_of_nobody())
        limits = Limits(tasks_max=_ASKING_TASKS, runtime_max_seconds=_ASKING_SECONDS)
        description = "Flow run of nobody: local-agent asks the interpreter of flow runs for its prefect"
        request = ScopeRequest(unit, self._place.slice, pid, description, self._place.after, limits, _STOP_SECONDS)
        await self._manager.start_scope(request)
        try:
            yield
        finally:
            with contextlib.suppress(LocalAgentError):
                await end_scope(self._manager, unit)
                await self._manager.reset_failed(unit)

    async def forget(self, record: Record) -> None:
        """Free the scope's name and remove the run's files."""
        await self._manager.reset_failed(scope_of(record.id))
        await self._files.remove(record)

    async def _enclose(self, identity: ProcessIdentity, record: Record, limits: Limits) -> None:
        unit = scope_of(record.id)
        request = ScopeRequest(
            unit=unit,
            slice=self._place.slice,
            pid=identity.pid,
            description=described(record.name, record.flow_name),
            after=self._place.after,
            limits=limits,
            stop_seconds=_STOP_SECONDS,
            oom_policy=self._oom_policy(),
        )
        try:
            await self._start(request)
        except ManagerUnreachableError:
            if not _is_in(identity.pid, unit):  # asked instead of assumed: it may have been done all the same
                raise
        if not _is_in(identity.pid, unit):
            raise LauncherUnavailableError(f"systemd says that {unit} is up, but process {identity.pid} is not in it")

    async def _start(self, request: ScopeRequest) -> None:
        """Start a scope; where systemd is away for a moment, ask again until it is back."""
        until = self._clock.monotonic() + _AWAY_SECONDS
        while True:
            try:
                await self._manager.start_scope(request)
            except NoAnswerError:
                if _is_in(request.pid, request.unit) or self._clock.monotonic() > until:
                    raise
            else:
                return
            await self._clock.sleep(_AGAIN_SECONDS)

    def _run(self, shim: Shim, record: Record, limits: Limits | None) -> ScopeRun:
        return ScopeRun(shim, record, self._manager, self._files, limits, self._output, self._clock)


class ScopeRun(ShimRun):
    """A flow run in its scope."""

    def __init__(
        self,
        shim: Shim,
        record: Record,
        manager: ScopeManager,
        files: Belongings,
        limits: Limits | None,
        output: Output,
        clock: Clock,
    ) -> None:
        self.unit = scope_of(record.id)
        super().__init__(shim, record, files, limits, output, clock, self.unit)
        self._manager = manager
        self._cgroup = cgroup.ROOT / cgroup_of(shim.identity.pid).lstrip("/")
        self._has_cgroup = self.unit in self._cgroup.name and cgroup.is_there(self._cgroup)
        self._may_have_failed = True

    async def stop(self, grace_seconds: float) -> None:
        """Stop the scope because the API asked for it: SIGTERM to all of it, after the grace SIGKILL."""
        self._cancelled = True
        await self._manager.kill(self.unit, signal.SIGTERM)
        until = self._clock.monotonic() + grace_seconds
        while self._clock.monotonic() < until and await _is_up(self._manager, self.unit):
            await self._clock.sleep(_LOOK_SECONDS * 4)
        if await _is_up(self._manager, self.unit):
            await self._manager.kill(self.unit, signal.SIGKILL)
        await self._shim.ended()

    def usage(self) -> Figures | None:
        """Ask its cgroup, where that is: the system's manager and users' own have them elsewhere."""
        place = cgroup_of(self.identity.pid)
        return cgroup.read_figures(cgroup.ROOT / place.lstrip("/")) if place.endswith(f"/{self.unit}") else None

    def end_if_outside(self) -> str:
        """End a shim that has left its scope. A user's own manager takes any process of that user elsewhere."""
        place = place_outside(self.identity, self.unit)
        if place:
            end_session(self.identity)
        return place

    async def sweep(self) -> None:
        """Stop what is left in the scope: daemons, and Prefect's own orphaned heartbeat process."""
        self._shim.reap()
        if not await self._is_empty():
            await end_scope(self._manager, self.unit)

    async def _is_empty(self) -> bool:
        """Ask the kernel: a thousand scopes that end at once are a thousand things that PID 1 has to do already."""
        for _ in range(_LOOKS if self._has_cgroup else 0):
            if cgroup.is_empty(self._cgroup):
                return True
            await self._clock.sleep(_LOOK_SECONDS)  # who ends is in it for a moment more
        return False

    async def evidence(self) -> End:
        """Put together how it ended, while the scope still knows its Result."""
        traces = self._traces()
        self._may_have_failed = not traces.tells_all
        if not traces.tells_all and not traces.is_clean:  # only then it matters, and PID 1 has other things to do
            status = await self._manager.status(self.unit)
            going_down = await self._manager.is_shutting_down()
            traces = replace(traces, result=status.result if status else "", shutting_down=going_down)
        return await _with_last_lines(self._manager, self.unit, evidence.conclude(traces))

    async def release(self) -> None:
        """Free the scope's name, which a failed one keeps."""
        if self._may_have_failed:
            await self._manager.reset_failed(self.unit)
        await super().release()


async def end_scope(manager: ScopeManager, unit: str) -> None:
    """Given a scope whose flow run has ended, return when nothing of it is left. A failed one stays loaded.

    Raise LauncherUnavailableError where something is left: it was sent SIGKILL, and to ask again soon finds it gone.
    """
    if not await _is_up(manager, unit):
        return
    await manager.stop(unit)
    if await _is_up(manager, unit):
        # systemd 257 stops nothing that is frozen; SIGKILL ends it all the same
        await manager.kill(unit, signal.SIGKILL)
        raise LauncherUnavailableError(f"systemd did not stop {unit}", hint=f"systemctl status {unit}")


async def _is_up(manager: ScopeManager, unit: str) -> bool:
    status = await manager.status(unit)
    return status is not None and status.active_state not in ("inactive", "failed")


async def _with_last_lines(manager: ScopeManager, unit: str, end: End) -> End:
    """A flow run that failed without a word is explained by what it printed, which the agent's user may not read."""
    if end.last_lines or not end.exit_code:
        return end
    return replace(end, last_lines=tuple(await manager.last_lines(unit, LAST_LINES)))


def _is_in(pid: int, unit: str) -> bool:
    return unit != "" and f"/{unit}" in cgroup_of(pid)
