"""Flow runs as plain processes, each in a session and process group of its own: for machines without systemd."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.launchers import evidence
from local_agent.launchers.output import Output, remove_output
from local_agent.launchers.run import ShimRun, traces_left
from local_agent.launchers.shim import Conditions, Shim, keep_descriptors
from local_agent.procfs import boot_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local_agent.clock import Clock
    from local_agent.launchers import LiveRun
    from local_agent.limits import Limits
    from local_agent.model import Child, End, ProcessIdentity, Record

_SWEEP_GRACE_SECONDS = 2.0
_LOOK_SECONDS = 0.05


class ProcessLauncher:
    """Starts shims in process groups. `base_of` gives the path of a run's files without suffix."""

    name = "process"

    def __init__(self, base_of: Callable[[str], Path], output: Output, clock: Clock) -> None:
        keep_descriptors()
        self._base_of = base_of
        self._output = output
        self._clock = clock
        self._runs: set[ProcessRun] = set()

    @property
    def pids(self) -> set[int]:
        """The processes that this launcher waits for itself."""
        return {run.identity.pid for run in self._runs}

    async def shut_down(self, grace_seconds: float) -> None:
        """End every flow run because the machine, or the container, is going down: nothing outlives its process 1."""
        await asyncio.gather(*(run.shut_down(grace_seconds) for run in self._runs))

    async def launch(self, record: Record, child: Child, limits: Limits) -> LiveRun:
        """Start a shim at its gate."""
        base = self._base_of(record.id)
        evidence.remove_exit_record(base)
        conditions = Conditions(own_cgroup=False, runtime_max_seconds=limits.runtime_max_seconds, nice=limits.nice)
        with self._output.open(record, base) as descriptor:
            shim = Shim.spawn(base, child, descriptor, conditions)
        return self._run(shim, base, limits)

    async def adopt(self, record: Record) -> LiveRun | None:
        """Take up a shim by its pid and start time."""
        shim = Shim.adopt(record.process) if record.process else None
        if shim is None:
            return None
        base = self._base_of(record.id)
        self._output.resume(record, base)
        return self._run(shim, base, record.limits)

    def _run(self, shim: Shim, base: Path, limits: Limits | None) -> ProcessRun:
        run = ProcessRun(shim, base, limits, self._output, self._clock, self._runs.discard)
        self._runs.add(run)
        return run

    async def end_of(self, record: Record) -> End:
        """Read what the shim left, and end what it left behind if it was killed while no agent ran."""
        base = self._base_of(record.id)
        if record.process is not None and _is_group_of(record.process, record.id):
            await _end_group(record.process.pid, _SWEEP_GRACE_SECONDS, self._clock)
        return evidence.conclude(traces_left(record, base, self._output))

    async def forget(self, record: Record) -> None:
        """Remove the run's files."""
        evidence.remove_exit_record(self._base_of(record.id))
        remove_output(self._base_of(record.id))


class ProcessRun(ShimRun):
    """A flow run in a process group, whose number is the shim's pid."""

    unit = ""

    def __init__(
        self,
        shim: Shim,
        base: Path,
        limits: Limits | None,
        output: Output,
        clock: Clock,
        on_detach: Callable[[ProcessRun], None],
    ) -> None:
        super().__init__(shim, base, limits, output, clock)
        self._on_detach = on_detach
        self._shutting_down = False

    async def stop(self, grace_seconds: float) -> None:
        """Stop the group because the API asked for it."""
        self._cancelled = True
        await _end_group(self.identity.pid, grace_seconds, self._clock)
        await self._shim.ended()

    async def shut_down(self, grace_seconds: float) -> None:
        """Stop the group because nothing here will go on."""
        self._shutting_down = True
        await _end_group(self.identity.pid, grace_seconds, self._clock)

    async def sweep(self) -> None:
        """End what is left in the group. With the shim reaped, a group that nobody is in exists no more."""
        self._shim.reap()
        await _end_group(self.identity.pid, _SWEEP_GRACE_SECONDS, self._clock)

    async def evidence(self) -> End:
        """Put together how it ended."""
        return evidence.conclude(self._traces(shutting_down=self._shutting_down))

    def detach(self) -> None:
        """Let go of the descriptors."""
        super().detach()
        self._on_detach(self)


async def _end_group(group: int, grace_seconds: float, clock: Clock) -> None:
    """Send SIGTERM, then SIGKILL, until nobody but zombies is left in the group."""
    until = clock.monotonic() + grace_seconds
    if not _signal(group, signal.SIGTERM):
        return
    while _others_in_group(group):
        if clock.monotonic() > until:
            _signal(group, signal.SIGKILL)
        await clock.sleep(_LOOK_SECONDS)


def _signal(group: int, number: int) -> bool:
    """Signal the group. Return False where there is none any more."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_group_of(process: ProcessIdentity, flow_run_id: str) -> bool:
    """Tell whether the group of a shim that is gone still has a process of its flow run.

    As long as it has one its number is nobody else's; without, it may be. The flow run's id is in their environment.
    """
    if process.boot_id != boot_id():
        return False
    return any(flow_run_id in _environment_of(pid) for pid in _members(process.pid))


def _environment_of(pid: str) -> str:
    try:
        return Path("/proc", pid, "environ").read_text(errors="replace")
    except OSError:
        return ""


def _others_in_group(group: int) -> bool:
    """Tell whether a process that is no zombie belongs to the group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return any(True for _ in _members(group))


def _members(group: int) -> Iterator[str]:
    """Return the processes of a group, zombies excepted."""
    return (pid for pid in os.listdir("/proc") if pid.isdigit() and _group_of(pid) == group)  # noqa: PTH208 - numbers


def _group_of(pid: str) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as stat:  # noqa: PTH123 - one of thousands, every 50 ms
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[2]) if len(fields) > 2 and fields[0] not in ("Z", "X") else None
