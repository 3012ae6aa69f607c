"""A bed for lifecycle of flow runs: a real disk, an API and a launcher that do what a plot says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from local_agent import backends, launchers
from local_agent.agent.admission import Admission
from local_agent.agent.fitness import Fitness
from local_agent.agent.flow_run import RunLifecycle
from local_agent.aio.threads import Workers
from local_agent.backends import NearMiss, QueuePage
from local_agent.errors import ApiUnreachableError, LocalAgentError, StateError
from local_agent.launchers import Lost
from local_agent.limits import Limits
from local_agent.linux.cgroup import Figures
from local_agent.linux.procfs import boot_id
from local_agent.model import (
    Cause,
    Child,
    Claim,
    CrashPolicy,
    End,
    FlowRun,
    Outcome,
    Record,
    RunView,
    Step,
)
from local_agent.settings import Settings
from local_agent.store.records import Store, opened
from support import samples
from support.clock import SkippingClock

CODE_3 = End(Cause.EXITED, exit_code=3)
HANDLE: Mapping[str, Any] = {"version": 1, "job": 42}
_FULL = StateError("cannot use the disk: No space left on device")


@dataclass
class Plot:
    """What the API, the launcher and the process do in a story, and the trail of what was asked of them."""

    claim: Claim = Claim.OURS
    end: End = CODE_3
    outcome: Outcome = Outcome.REPORTED
    launch_error: LocalAgentError | None = None
    report_failures: int = 0
    faults: int = 0
    alive_after_restart: bool = True
    epilogue: Child | LocalAgentError | None = None
    stuck_in_launch: asyncio.Event | None = None
    at_the_gate: Callable[[], None] = lambda: None
    reported: list[End] = field(default_factory=list)
    trail: list[str] = field(default_factory=list)


class Disk(Store):
    """A store that notes what it is told, and that a test can fill."""

    def __init__(self, folder: Path, trail: list[str]) -> None:
        super().__init__(folder)
        self._trail = trail
        self.is_full_for: set[Step] = set()
        self.removed = asyncio.Event()

    def save(self, record: Record, *, durable: bool = False) -> None:
        """Put a record on disk, where that is not full."""
        if record.step in self.is_full_for:
            raise _FULL
        super().save(record, durable=durable)
        self._trail.append(f"record: {record.step.value}")

    def save_claims(self, records: Sequence[Record]) -> Sequence[StateError | None]:
        """Put claims on disk, where that is not full."""
        if Step.CLAIMING in self.is_full_for:
            return [_FULL] * len(records)
        self._trail.extend(f"record: {record.step.value}" for record in records)
        return super().save_claims(records)

    def remove(self, flow_run_id: str) -> None:
        """Forget a run."""
        super().remove(flow_run_id)
        self._trail.append("record: gone")
        self.removed.set()


class Process:
    """A flow run's process that does what the plot says."""

    handle = HANDLE
    where = "job 42"

    def __init__(self, plot: Plot) -> None:
        self._plot = plot

    def open_gate(self) -> None:
        """Let it start."""
        self._plot.trail.append("gate")
        self._plot.at_the_gate()

    async def abandon(self) -> None:
        """Shut the gate."""
        self._plot.trail.append("abandon")

    async def ended(self) -> None:
        """It ends at once."""
        self._plot.trail.append("ended")

    async def sweep(self) -> None:
        """Note it."""
        self._plot.trail.append("sweep")

    async def evidence(self) -> End:
        """Return the plot's end, or fail as often as the plot says as only a fault of ours would."""
        if self._plot.faults:
            self._plot.faults -= 1
            raise RuntimeError("a fault of ours")
        return self._plot.end

    def interrupt(self) -> None:
        """Note it."""
        self._plot.trail.append("interrupt")

    async def stop(self, grace_seconds: float) -> None:
        """Nobody asks for it here."""
        raise AssertionError(grace_seconds)

    def usage(self) -> Figures | None:
        """Nobody counts."""
        return None

    def end_if_outside(self) -> str:
        """It stays where it is."""
        return ""

    def detach(self) -> None:
        """Note it."""
        self._plot.trail.append("detach")

    async def release(self) -> None:
        """Note it."""
        self._plot.trail.append("release")


class Launcher:
    """Launches processes of the plot."""

    name = "test"
    ends_with = ""
    outlives_reboot = False

    def __init__(self, plot: Plot) -> None:
        self._plot = plot

    async def launch(self, record: Record, child: Child, limits: Limits) -> Process:
        """Start one at its gate."""
        self._plot.trail.append("launch")
        if self._plot.launch_error is not None:
            raise self._plot.launch_error
        if self._plot.stuck_in_launch is not None:
            self._plot.stuck_in_launch.set()
            await asyncio.Event().wait()
        return Process(self._plot)

    def room(self, held: int) -> str:
        """There is always some."""
        return ""

    def note_taken(self) -> None:
        """Nothing follows from it."""

    async def reason_against(self, *, in_doubt: bool) -> str:
        """It can always be used."""
        return ""

    def lost(self, known: AbstractSet[str], *, leftovers: bool) -> Sequence[Lost]:
        """It loses none."""
        return ()

    async def shut_down(self, grace_seconds: float) -> None:
        """Nobody asks for it here."""
        raise AssertionError(grace_seconds)

    def may_live(self, record: Record) -> bool:
        """It does not outlive its boot."""
        return record.boot_id == boot_id()

    async def adopt(self, record: Record) -> Process | End:
        """Find it alive, or the plot's end; without a record that says running it never started."""
        self._plot.trail.append("adopt")
        if record.step is Step.CLAIMING:
            return End(Cause.NEVER_STARTED)
        return Process(self._plot) if self._plot.alive_after_restart else self._plot.end

    async def forget(self, record: Record) -> None:
        """Note it."""
        self._plot.trail.append("forget")


class Backend:
    """An API of the plot."""

    def __init__(self, plot: Plot, clock: SkippingClock) -> None:
        self._plot = plot
        self._clock = clock

    name = "prefect1"

    def asks_for(self) -> str:
        """Ask for all."""
        return "all"

    def nonce(self) -> str:
        """Return any."""
        return "nonce"

    def ticket(self, run: FlowRun) -> Mapping[str, object]:
        """Need nothing later."""
        return {}

    async def child(self, run: FlowRun) -> Child:
        """Return any command."""
        return Child(("python",), {}, Path("/"))

    def launched(self, record: Record, where: str) -> None:
        """Lines are no part of a story."""

    def unsupported(self, run: FlowRun) -> str:
        """Run anything."""
        return ""

    async def send_heartbeats(self, ids: Sequence[str]) -> None:
        """Nobody asks for it here."""
        raise AssertionError(ids)

    async def cancel(self, flow_run_id: str) -> str:
        """Nobody asks for it here."""
        raise AssertionError(flow_run_id)

    def close(self) -> None:
        """There is nothing to close."""

    async def claim(self, run: FlowRun, nonce: str) -> Claim:
        """Return the plot's claim."""
        assert nonce
        self._plot.trail.append("claim")
        return self._plot.claim

    async def claimed(self, record: Record) -> Claim:
        """Return the plot's claim."""
        self._plot.trail.append("claimed?")
        return self._plot.claim

    async def give_back(self, record: Record) -> Outcome:
        """Note it."""
        self._plot.trail.append("give back")
        return Outcome.GIVEN_BACK

    async def refuse(self, record: Record, message: str) -> Outcome:
        """Note it."""
        self._plot.trail.append("refuse")
        return Outcome.REPORTED

    async def report(self, record: Record, end: End, policy: CrashPolicy) -> Outcome:
        """Fail as often as the plot says, then note it."""
        if self._plot.report_failures:
            self._plot.report_failures -= 1
            raise ApiUnreachableError("no answer")
        self._plot.reported.append(end)
        self._plot.trail.append(f"report: {end.cause.value}")
        return self._plot.outcome

    async def epilogue(self, record: Record, end: End) -> Child | None:
        """Return the plot's, or raise what it says."""
        if isinstance(self._plot.epilogue, LocalAgentError):
            raise self._plot.epilogue
        return self._plot.epilogue

    async def attend(self, on_work: Callable[[], None], on_change: Callable[[], None]) -> None:
        """There is nothing to attend to."""

    async def connect(self) -> str:
        """Know the agent."""
        return ""

    clock_ahead_seconds: float | None = None
    trouble = ""

    def earlier_now(self) -> datetime:
        """Return the story's time."""
        return self._clock.now()

    async def due_runs(self, before: datetime, known: Collection[str]) -> QueuePage:
        """Return an empty page."""
        return QueuePage(frozenset(), (), is_full=False)

    async def near_misses(self, known: Collection[str]) -> Sequence[NearMiss]:
        """Know of none."""
        return ()

    async def parents(self, ids: Collection[str]) -> Mapping[str, str]:
        """Know of none."""
        return {}

    async def views(self, ids: Sequence[str]) -> Mapping[str, RunView]:
        """Know of none."""
        return {}

    def log(self, flow_run_id: str, message: str, level: str = "INFO") -> None:
        """Lines are no part of a story."""


class Bed:
    """RunLifecycle over a real disk, an API and a launcher of the plot, or others in the place of these."""

    def __init__(
        self,
        folder: Path,
        disk: Workers,
        plot: Plot,
        settings: Settings,
        *,
        api: tuple[backends.Backend, SkippingClock] | None = None,
        launcher: launchers.Launcher | None = None,
    ) -> None:
        self.settings = lambda: settings
        self.plot = plot
        self.trail = plot.trail
        self.log = samples.ListLog()
        clock = SkippingClock()
        self.plots = Backend(plot, clock)
        self.backend, self.clock = api or (self.plots, clock)
        self.store = Disk(folder, plot.trail)
        self.admission = Admission(lambda: settings)
        launcher = launcher or Launcher(plot)
        self.fitness = Fitness((), self.clock)
        self.lifecycle = RunLifecycle(
            backend=self.backend,
            launcher=launcher,
            launchers={"test": launcher, launcher.name: launcher},
            store=self.store,
            disk=disk,
            admission=self.admission,
            fitness=self.fitness,
            clock=self.clock,
            log=self.log,
            settings=lambda: settings,
            claims_at_once=100,
            on_startup_failure=lambda: self.trail.append("early end"),
        )

    def check_that_nothing_is_held(self) -> None:
        """Check that the story is over: no place, no record, no live run."""
        assert self.admission.held == 0
        assert self.lifecycle.live == {}
        assert self.lifecycle.launching == self.lifecycle.claiming == set()
        assert self.store.load_all() == ((), ())


@asynccontextmanager
async def lifecycle_bed(
    folder: Path,
    plot: Plot | None = None,
    *,
    api: tuple[backends.Backend, SkippingClock] | None = None,
    launcher: launchers.Launcher | None = None,
    **settings: object,
) -> AsyncIterator[Bed]:
    """Make a bed whose disk is a folder; `api` and `launcher` are others than the plot's."""
    workers = Workers("test-disk", 1)
    bed = Bed(folder, workers, plot or Plot(), samples.settings(**settings), api=api, launcher=launcher)
    try:
        with opened(bed.store):
            yield bed
    finally:
        workers.close()
