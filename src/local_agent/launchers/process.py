"""Flow runs as plain processes, each in a session and process group of its own: for machines without systemd."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from local_agent.launchers import evidence
from local_agent.launchers.group import Member, end_group, environment_of
from local_agent.launchers.handle import handle_in
from local_agent.launchers.lost import shims_without_record
from local_agent.launchers.run import ShimRun, may_live, traces_left
from local_agent.launchers.shim import Shim, keep_descriptors
from local_agent.launchers.starter import Conditions
from local_agent.linux.procfs import boot_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from local_agent.aio.clock import Clock
    from local_agent.launchers import LiveRun, Lost
    from local_agent.launchers.belongings import Belongings, OnLeft
    from local_agent.launchers.output import Output
    from local_agent.launchers.parts import Parts
    from local_agent.limits import Limits
    from local_agent.model import Child, End, Record

_SWEEP_GRACE_SECONDS = 2.0


class ProcessLauncher:
    """Starts shims in process groups. `ends_with` is the service that they end with, as they are in its cgroup."""

    name = "process"
    outlives_reboot = False

    def __init__(self, parts: Parts, ends_with: str = "") -> None:
        keep_descriptors()
        self.ends_with = ends_with
        self._parts = parts
        self._files = parts.files
        self._output = parts.output
        self._clock = parts.clock
        self._runs: set[ProcessRun] = set()

    @property
    def pids(self) -> set[int]:
        """The processes that this launcher waits for itself."""
        return {run.identity.pid for run in self._runs}

    def room(self, held: int) -> str:
        """Look at this machine."""
        return self._parts.room.reason_against(held)

    def note_taken(self) -> None:
        """Count it."""
        self._parts.room.note_taken()

    async def reason_against(self, *, in_doubt: bool) -> str:  # noqa: ARG002 - the Protocol's
        """Look at this machine's limits and at the output."""
        return await self._files.disk.run(self._parts.shortage)

    def lost(self, known: AbstractSet[str], *, leftovers: bool) -> Sequence[Lost]:  # noqa: ARG002 - the Protocol's
        """Look for shims of the agent's folder, wherever they are."""
        return shims_without_record(self._files.folder, known)

    async def shut_down(self, grace_seconds: float) -> None:
        """End every flow run because the machine, or the container, is going down: nothing outlives its process 1."""
        await asyncio.gather(*(run.shut_down(grace_seconds) for run in self._runs))

    async def launch(self, record: Record, child: Child, limits: Limits) -> LiveRun:
        """Start a shim at its gate."""
        base, child = self._files.base_of(record.id), self._files.prepared(record, child)
        conditions = Conditions(
            record.nonce,
            own_cgroup=False,
            runtime_max_seconds=limits.runtime_max_seconds,
            nice=limits.nice,
            open_files=self._parts.open_files,
        )
        with self._output.open(record, base) as descriptor:
            shim = await Shim.launch(self._parts.starter, base, child, descriptor, conditions)
        return self._run(shim, record, limits)

    def may_live(self, record: Record) -> bool:
        """No process outlives its boot."""
        return may_live(record)

    async def adopt(self, record: Record) -> LiveRun | End:
        """Take up a shim by its pid and start time; where it is gone, read what it left."""
        process = handle_in(record).process
        shim = Shim.adopt(process) if process else None
        if shim is None:
            return await self._end_of(record)
        self._output.resume(record, self._files.base_of(record.id))
        return self._run(shim, record, record.limits)

    def _run(self, shim: Shim, record: Record, limits: Limits | None) -> ProcessRun:
        run = ProcessRun(shim, record, self._files, limits, self._output, self._clock, self._runs.discard)
        run.dies_with_service = self.ends_with != ""
        self._runs.add(run)
        return run

    async def _end_of(self, record: Record) -> End:
        """Read what the shim left, and end what it left behind if it was killed while no agent ran."""
        process = handle_in(record).process
        if process is not None and process.boot_id == boot_id():
            left = await end_group(
                process.pid, lambda members: _is_proven(members, record.id, None), _SWEEP_GRACE_SECONDS, self._clock
            )
            _say(left, record, self._files.on_left)
        traces = traces_left(record, self._files.base_of(record.id), self._output)
        return evidence.conclude(replace(traces, dies_with_service=self.ends_with != ""))

    async def forget(self, record: Record) -> None:
        """Remove the run's files."""
        await self._files.remove(record)


class ProcessRun(ShimRun):
    """A flow run in a process group, whose number is the shim's pid."""

    dies_with_service = False

    def __init__(
        self,
        shim: Shim,
        record: Record,
        files: Belongings,
        limits: Limits | None,
        output: Output,
        clock: Clock,
        on_detach: Callable[[ProcessRun], None],
    ) -> None:
        super().__init__(shim, record, files, limits, output, clock)
        self._on_detach = on_detach
        self._shutting_down = False
        self._reaped_at_ticks: int | None = None

    async def stop(self, grace_seconds: float) -> None:
        """Stop the group because the API asked for it."""
        self._cancelled = True
        await self._end_group(grace_seconds)
        await self._shim.ended()

    async def shut_down(self, grace_seconds: float) -> None:
        """Stop the group because nothing here will go on."""
        self._shutting_down = True
        await self._end_group(grace_seconds)

    async def sweep(self) -> None:
        """End what is left in the group. With the shim reaped, a group that nobody is in exists no more."""
        if self._shim.holds_its_pid:
            self._reaped_at_ticks = _uptime_ticks()
        self._shim.reap()
        await self._end_group(_SWEEP_GRACE_SECONDS)

    async def evidence(self) -> End:
        """Put together how it ended."""
        traces = self._traces(shutting_down=self._shutting_down)
        return evidence.conclude(replace(traces, dies_with_service=self.dies_with_service))

    async def _end_group(self, grace_seconds: float) -> None:
        left = await end_group(self.identity.pid, self._is_ours, grace_seconds, self._clock)
        _say(left, self._record, self._files.on_left)

    def _is_ours(self, members: list[Member]) -> bool:
        return self._shim.holds_its_pid or _is_proven(members, self._record.id, self._reaped_at_ticks)

    def detach(self) -> None:
        """Let go of the descriptors."""
        super().detach()
        self._on_detach(self)


def _is_proven(members: list[Member], flow_run_id: str, before_ticks: int | None) -> bool:
    """Tell whether a group whose shim is gone still has a process of its flow run, so that its number is nobody else's.

    One is proven by the flow run's id in its environment, or by its start at a time when the shim held the number.
    """
    return any(
        (before_ticks is not None and member.start_ticks < before_ticks) or flow_run_id in environment_of(member.pid)
        for member in members
    )


def _uptime_ticks() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def _say(left: list[Member], record: Record, on_left: OnLeft) -> None:
    if left:
        names = ", ".join(f"{member.name} (PID {member.pid})" for member in left)
        on_left(record, names)
