"""A launcher of another kind, made of what the Protocols say and of nothing else: jobs in the queue of a cluster.

It is an example for whoever adds one. A job has a number and no pid, waits on hold until it is let go, lives on
whatever happens to this machine, and its end is learned by asking again and again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

from local_agent.errors import LaunchError, StateError
from local_agent.launchers import Launcher, LiveRun, Lost
from local_agent.limits import Limits
from local_agent.linux.cgroup import Figures
from local_agent.model import Cause, Child, End, Record, Step
from support import samples

_VERSION = 1
_LOOK_SECONDS = 0.01


@dataclass
class Job:
    """A job as the cluster knows it: `name` and `comment` are what identifies it, as numbers are given again."""

    number: int
    name: str
    comment: str
    argv: tuple[str, ...]
    is_held: bool = True
    begun: int = 0
    is_asked: bool = False
    end: tuple[int, int] | None = None  # its exit code, and the signal that ended it


@dataclass
class Cluster:
    """Machines elsewhere. They have one folder, and know how often a job began."""

    folder: Path = Path("/home/cluster")
    jobs: dict[int, Job] = field(default_factory=dict)
    may_end: bool = False
    begun: int = 0
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def submit(self, name: str, comment: str, argv: tuple[str, ...]) -> Job:
        """Take a job in, on hold."""
        job = Job(next(self.numbers), name, comment, argv)
        self.jobs[job.number] = job
        return job

    def let_go(self, number: int) -> None:
        """Start what is held. One that runs already goes on."""
        job = self.jobs[number]
        if job.is_held:
            job.is_held = False
            self.begun += 1

    def signal(self, number: int, signal: int) -> None:
        """Send a signal to a job. 9 ends it, 15 does where it heeds that."""
        job = self.jobs.get(number)
        if job is not None and not job.is_held and (signal == 9 or job.argv[1] == "heeds"):
            job.end = job.end or (0, signal)

    def cancel(self, number: int) -> None:
        """Take a job out of the queue, running or not."""
        self.jobs.pop(number, None)

    async def look(self) -> Sequence[Job]:
        """Return all jobs, as a command over the network tells them."""
        await asyncio.sleep(0)
        for job in self.jobs.values():
            if self.may_end and not job.is_held:
                job.end = job.end or (int(job.argv[0]), 0)
        return list(self.jobs.values())


class ToyRun:
    """A job that this life of the agent knows."""

    def __init__(self, cluster: Cluster, job: Job, record: Record) -> None:
        self._cluster = cluster
        self._number = job.number
        self._record = record
        self._is_cancelled = False
        self._end: tuple[int, int] | None = None
        self.handle = {"version": _VERSION, "job": job.number}
        self.where = f"job {job.number} of the cluster"

    def open_gate(self) -> None:
        """Let it go."""
        self._cluster.let_go(self._number)

    async def abandon(self) -> None:
        """Take it out of the queue."""
        self._cluster.cancel(self._number)

    async def ended(self) -> None:
        """Ask until it has."""
        while self._end is None:
            found = await self._look()
            self._end = found.end if found else (0, 9)
            await asyncio.sleep(_LOOK_SECONDS)

    def interrupt(self) -> None:
        """Send a signal."""
        self._is_cancelled = True
        self._cluster.signal(self._number, 15)

    async def stop(self, grace_seconds: float) -> None:
        """Send a signal, after the grace another one."""
        self.interrupt()
        try:
            async with asyncio.timeout(grace_seconds):
                await self.ended()
        except TimeoutError:
            self._cluster.signal(self._number, 9)
            await self.ended()

    async def sweep(self) -> None:
        """The cluster leaves nothing of a job."""

    async def evidence(self) -> End:
        """Put together what the cluster says and what was asked of it."""
        assert self._end is not None
        return _as_end(self._end, is_cancelled=self._is_cancelled)

    def usage(self) -> Figures | None:
        """Nobody counts."""
        return None

    def end_if_outside(self) -> str:
        """It cannot leave its machine."""
        return ""

    def detach(self) -> None:
        """Nothing is held."""

    async def release(self) -> None:
        """Let the cluster forget it."""
        self._cluster.cancel(self._number)

    async def _look(self) -> Job | None:
        jobs = await self._cluster.look()
        return next((job for job in jobs if job.number == self._number), None)


class ToyLauncher:
    """Submits jobs."""

    name = "toy"
    ends_with = ""
    outlives_reboot = True

    def __init__(self, cluster: Cluster, most: int = 100) -> None:
        self._cluster = cluster
        self._most = most

    def room(self, held: int) -> str:
        """Where the queue is long the rest stays with the API."""
        return "" if held < self._most else f"{held} jobs are in the queue already"

    def note_taken(self) -> None:
        """The queue shows it soon enough."""

    async def reason_against(self, *, in_doubt: bool) -> str:
        """The cluster is always there."""
        return ""

    def lost(self, known: AbstractSet[str], *, leftovers: bool) -> Sequence[Lost]:
        """Look for jobs that nobody knows."""
        unknown = [job for job in self._cluster.jobs.values() if job.name not in known]
        handles = ((job, {"version": _VERSION, "job": job.number}) for job in unknown)
        return [Lost(job.name, self.name, handle, f"job {job.number}") for job, handle in handles]

    async def shut_down(self, grace_seconds: float) -> None:
        """Jobs do not end with this machine."""

    def may_live(self, record: Record) -> bool:
        """A reboot of this machine means nothing there."""
        return True

    async def launch(self, record: Record, child: Child, limits: Limits) -> LiveRun:
        """Submit a job on hold, where its folder is there."""
        if child.working_dir not in (None, self._cluster.folder):
            raise LaunchError(f"Flow run {record.id} has no folder {child.working_dir} on the cluster")
        await asyncio.sleep(0)
        return ToyRun(self._cluster, self._cluster.submit(record.id, record.nonce, child.argv), record)

    async def adopt(self, record: Record) -> LiveRun | End:
        """Look for its job: by its number, or by its name and nonce where there is no handle yet."""
        job = await self._job_of(record)
        if job is None:
            return End(Cause.NEVER_STARTED if record.step is Step.CLAIMING else Cause.VANISHED)
        if job.is_held:
            return End(Cause.NEVER_STARTED)  # `forget` takes it out of the queue
        return ToyRun(self._cluster, job, record) if job.end is None else _as_end(job.end)

    async def forget(self, record: Record) -> None:
        """Take what there is of it out of the queue."""
        job = await self._job_of(record)
        if job is not None:
            self._cluster.cancel(job.number)

    async def _job_of(self, record: Record) -> Job | None:
        jobs = await self._cluster.look()
        if not record.handle:
            return next((job for job in jobs if (job.name, job.comment) == (record.id, record.nonce)), None)
        if record.handle.get("version") != _VERSION:
            raise StateError(f"the record of {record.label} is of a later version")
        return next((job for job in jobs if job.number == record.handle["job"] and job.name == record.id), None)


def _as_end(end: tuple[int, int], *, is_cancelled: bool = False) -> End:
    code, signal = end
    if is_cancelled and signal:
        return End(Cause.CANCELLED, signal=signal)
    return End(Cause.SIGNALLED, signal=signal) if signal else End(Cause.EXITED, exit_code=code)


class ToyGround:
    """A cluster with nothing in it."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.record = samples.record(step=Step.CLAIMING, launcher="toy")

    def launcher(self) -> Launcher:
        """Return one that submits to the same cluster."""
        return ToyLauncher(self.cluster)

    def child(self, code: int = 0, *, heeds: bool = True) -> Child:
        """Return a job that ends with a code when the cluster lets it."""
        return Child((str(code), "heeds" if heeds else "ignores"), {}, self.cluster.folder)

    @property
    def begun(self) -> int:
        """The cluster has counted."""
        return self.cluster.begun

    def let_end(self) -> None:
        """Let the cluster end it."""
        self.cluster.may_end = True

    def lose(self, run: LiveRun) -> None:
        """A job knows of no agent."""
        run.detach()

    def is_gone(self) -> bool:
        """Tell whether no job runs."""
        for job in self.cluster.jobs.values():
            if self.cluster.may_end and not job.is_held:
                job.end = job.end or (int(job.argv[0]), 0)
        return all(job.is_held or job.end for job in self.cluster.jobs.values())

    def left(self) -> Sequence[str]:
        """Return the jobs that the cluster knows."""
        return [f"job {number}" for number in self.cluster.jobs]

    def close(self) -> None:
        """There is nothing to close."""
