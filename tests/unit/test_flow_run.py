"""The story of one flow run, step by step: what is on disk before, in and after each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from local_agent import events
from local_agent.admission import Admission
from local_agent.errors import ApiUnreachableError, LaunchError, LocalAgentError, ManagerUnreachableError, StateError
from local_agent.flow_run import Stories
from local_agent.limits import Limits
from local_agent.model import Cause, Child, Claim, CrashPolicy, End, FlowRun, Outcome, ProcessIdentity, Record, Step
from local_agent.procfs import boot_id
from local_agent.settings import Settings
from local_agent.store import Store, opened
from local_agent.threads import Workers
from support import samples
from support.clock import START, SkippingClock

_CODE_3 = End(Cause.EXITED, exit_code=3)
_NEVER_STARTED = End(Cause.NEVER_STARTED)
_PROCESS = ProcessIdentity(42, 1, "this-boot")


@dataclass
class Plot:
    """What the API, the launcher and the process do in a story, and the trail of what was asked of them."""

    claim: Claim = Claim.OURS
    end: End = _CODE_3
    launch_error: LocalAgentError | None = None
    report_failures: int = 0
    alive_after_restart: bool = True
    stuck_in_launch: asyncio.Event | None = None
    trail: list[str] = field(default_factory=list)


class Disk(Store):
    """A store that notes what it is told, and that a test can fill."""

    def __init__(self, folder: Path, trail: list[str]) -> None:
        super().__init__(folder)
        self._trail = trail
        self.is_full_for: set[Step] = set()

    def _write(self, record: Record, *, durable: bool = True) -> None:
        if record.step in self.is_full_for:
            raise StateError("cannot use the disk: No space left on device")
        super()._write(record, durable=durable)
        self._trail.append(f"record: {record.step.value}")

    def remove(self, flow_run_id: str) -> None:
        """Forget a run."""
        super().remove(flow_run_id)
        self._trail.append("record: gone")


class Process:
    """A flow run's process that does what the plot says."""

    unit = "flow-run-1.scope"
    identity = _PROCESS

    def __init__(self, plot: Plot) -> None:
        self._plot = plot

    def open_gate(self) -> None:
        """Let it start."""
        self._plot.trail.append("gate")

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
        """Return the plot's end."""
        return self._plot.end

    async def stop(self, grace_seconds: float) -> None:
        """Nobody asks for it here."""
        raise AssertionError(grace_seconds)

    def detach(self) -> None:
        """Nobody asks for it here."""
        raise AssertionError

    async def release(self) -> None:
        """Note it."""
        self._plot.trail.append("release")


class Launcher:
    """Launches processes of the plot."""

    name = "test"

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

    async def adopt(self, record: Record) -> Process | None:
        """Find it alive, or not."""
        self._plot.trail.append("adopt")
        return Process(self._plot) if self._plot.alive_after_restart else None

    async def end_of(self, record: Record) -> End:
        """Return the plot's end."""
        return self._plot.end

    async def forget(self, record: Record) -> None:
        """Note it."""
        self._plot.trail.append("forget")


class Backend:
    """An API of the plot."""

    def __init__(self, plot: Plot) -> None:
        self._plot = plot

    def child(self, run: FlowRun) -> Child:
        """Return any command."""
        return Child(("python",), {}, Path("/"))

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
        self._plot.trail.append(f"report: {end.cause.value}")
        return Outcome.REPORTED

    def log(self, flow_run_id: str, message: str, level: str = "INFO") -> None:
        """Lines are no part of a story."""


class Bed:
    """Stories over a real disk, an API and a launcher of the plot."""

    def __init__(self, folder: Path, disk: Workers, plot: Plot, settings: Settings) -> None:
        self.plot = plot
        self.trail = plot.trail
        self.log = samples.ListLog()
        self.clock = SkippingClock()
        self.store = Disk(folder, plot.trail)
        self.admission = Admission(lambda: settings)
        launcher = Launcher(plot)
        self.stories = Stories(
            backend=Backend(plot),  # type: ignore[arg-type]  # only what a story asks of it
            launcher=launcher,
            launchers={"test": launcher},
            store=self.store,
            disk=disk,
            admission=self.admission,
            clock=self.clock,
            log=self.log,
            settings=lambda: settings,
        )

    def check_that_nothing_is_held(self) -> None:
        """Check that the story is over: no place, no record, no live run."""
        assert self.admission.held == 0
        assert self.stories.live == {}
        assert self.stories.launching == self.stories.claiming == set()
        assert self.store.load_all() == ((), ())


@asynccontextmanager
async def _bed(folder: Path, plot: Plot | None = None, **settings: object) -> AsyncIterator[Bed]:
    workers = Workers("test-disk", 1)
    bed = Bed(folder, workers, plot or Plot(), samples.settings(**settings))
    try:
        with opened(bed.store):
            yield bed
    finally:
        workers.close()


async def test_a_whole_story(tmp_path: Path) -> None:
    async with _bed(tmp_path) as bed:
        assert await bed.stories.new(samples.flow_run()) == 0
        assert bed.trail == [
            *("record: claiming", "claim"),
            *("launch", "record: running", "gate"),
            *("ended", "sweep", "record: ended", f"report: {Cause.EXITED.value}", "release", "record: gone"),
        ]
        bed.check_that_nothing_is_held()
        assert bed.log.events == [events.LAUNCHED, events.CRASHED]


async def test_it_waits_for_its_time_and_holds_no_place_meanwhile(tmp_path: Path) -> None:
    async with _bed(tmp_path, limit=1) as bed:
        held: list[int] = []

        async def look(_seconds: float) -> None:
            held.append(bed.admission.held)

        bed.clock.on_sleep = look
        await bed.stories.new(samples.flow_run(due=START + timedelta(seconds=8)))
        assert bed.clock.now() > START + timedelta(seconds=8), "a child that starts early does not run"
        assert held
        assert set(held) == {0}


async def test_without_a_place_it_is_left_where_it_is(tmp_path: Path) -> None:
    async with _bed(tmp_path, limit=1) as bed:
        bed.admission.hold("another")
        assert await bed.stories.new(samples.flow_run()) == 0
        assert bed.trail == []


@pytest.mark.parametrize(("claim", "seconds"), [(Claim.LOST, 0), (Claim.LATER, 30)])
async def test_a_claim_that_is_not_ours_is_forgotten(tmp_path: Path, claim: Claim, seconds: float) -> None:
    async with _bed(tmp_path, Plot(claim=claim)) as bed:
        assert await bed.stories.new(samples.flow_run()) == seconds
        assert bed.trail == ["record: claiming", "claim", "record: gone"]
        bed.check_that_nothing_is_held()


async def test_what_cannot_be_remembered_is_not_claimed(tmp_path: Path) -> None:
    async with _bed(tmp_path) as bed:
        bed.store.is_full_for = {Step.CLAIMING}
        assert await bed.stories.new(samples.flow_run()) == 30
        assert bed.trail == []
        assert bed.log.events == [events.STATE_PROBLEM]
        bed.check_that_nothing_is_held()


async def test_a_flow_runs_own_fault_is_refused(tmp_path: Path) -> None:
    async with _bed(tmp_path, Plot(launch_error=LaunchError("no such folder"))) as bed:
        await bed.stories.new(samples.flow_run())
        assert bed.trail == ["record: claiming", "claim", "launch", "refuse", "forget", "record: gone"]
        bed.check_that_nothing_is_held()


@pytest.mark.parametrize("error", [ManagerUnreachableError("systemd says no"), StateError("disk full")])
async def test_the_machines_fault_gives_it_back(tmp_path: Path, error: LocalAgentError) -> None:
    async with _bed(tmp_path, Plot(launch_error=error)) as bed:
        assert await bed.stories.new(samples.flow_run()) == 30
        assert bed.trail == ["record: claiming", "claim", "launch", "give back", "forget", "record: gone"]
        bed.check_that_nothing_is_held()


async def test_no_gate_opens_before_the_record_says_which_process_it_is(tmp_path: Path) -> None:
    async with _bed(tmp_path) as bed:
        bed.store.is_full_for = {Step.RUNNING}
        assert await bed.stories.new(samples.flow_run()) == 30
        assert bed.trail == ["record: claiming", "claim", "launch", "abandon", "give back", "forget", "record: gone"]
        bed.check_that_nothing_is_held()


async def test_a_full_disk_at_the_end_keeps_nobody_from_being_told(tmp_path: Path) -> None:
    async with _bed(tmp_path) as bed:
        bed.store.is_full_for = {Step.ENDED}
        await bed.stories.new(samples.flow_run())
        assert bed.trail[-3:] == ["report: exited", "release", "record: gone"]
        bed.check_that_nothing_is_held()


async def test_an_end_is_told_when_the_outage_is_over_and_the_wait_said_once(tmp_path: Path) -> None:
    async with _bed(tmp_path, Plot(report_failures=20)) as bed:
        await bed.stories.new(samples.flow_run())
        assert bed.log.events.count(events.REPORT_WAITS) == 1
        assert bed.trail.count("report: exited") == 1
        assert max(bed.clock.slept) <= 30
        bed.check_that_nothing_is_held()


async def test_leftovers_may_be_kept(tmp_path: Path) -> None:
    async with _bed(tmp_path, leftovers="keep") as bed:
        await bed.stories.new(samples.flow_run())
        assert "sweep" not in bed.trail


async def test_a_process_that_never_passed_its_gate_is_given_back(tmp_path: Path) -> None:
    async with _bed(tmp_path, Plot(end=_NEVER_STARTED)) as bed:
        await bed.stories.new(samples.flow_run())
        assert bed.trail[-3:] == ["give back", "release", "record: gone"]


def _remembered(bed: Bed, **given: object) -> Record:
    record = replace(samples.record(boot_id=boot_id(), launcher="test", process=_PROCESS), **given)  # type: ignore[arg-type]  # fields of many types
    bed.store.save(record)
    bed.trail.clear()
    return record


async def test_after_a_restart_a_claim_that_is_ours_is_given_back(tmp_path: Path) -> None:
    async with _bed(tmp_path) as bed:
        await bed.stories.resume(_remembered(bed, step=Step.CLAIMING))
        assert bed.trail == ["claimed?", "give back", "forget", "record: gone"]
        bed.check_that_nothing_is_held()


async def test_after_a_restart_a_claim_that_is_not_ours_is_forgotten(tmp_path: Path) -> None:
    async with _bed(tmp_path, Plot(claim=Claim.LOST)) as bed:
        await bed.stories.resume(_remembered(bed, step=Step.CLAIMING))
        assert bed.trail[0] == "claimed?"
        assert bed.trail[-1] == "record: gone"
        assert "give back" not in bed.trail


async def test_after_a_power_cut_a_claim_may_hide_a_run_that_had_started(tmp_path: Path) -> None:
    async with _bed(tmp_path) as bed:
        await bed.stories.resume(_remembered(bed, step=Step.CLAIMING, boot_id="before", process=None))
        assert "report: power-lost" in bed.trail
        assert "give back" not in bed.trail
        bed.check_that_nothing_is_held()


async def test_after_a_restart_a_live_run_is_adopted_and_counted(tmp_path: Path) -> None:
    async with _bed(tmp_path, limit=1) as bed:
        await bed.stories.resume(_remembered(bed))
        assert bed.trail == ["adopt", "ended", "sweep", "record: ended", "report: exited", "release", "record: gone"]
        assert bed.log.events == [events.ADOPTED, events.CRASHED]
        bed.check_that_nothing_is_held()


async def test_after_a_restart_the_end_of_a_run_that_is_gone_is_told(tmp_path: Path) -> None:
    async with _bed(tmp_path, Plot(alive_after_restart=False)) as bed:
        await bed.stories.resume(_remembered(bed))
        assert bed.trail == ["adopt", "record: ended", "report: exited", "forget", "record: gone"]


async def test_after_a_restart_a_run_at_its_gate_is_given_back(tmp_path: Path) -> None:
    async with _bed(tmp_path, Plot(alive_after_restart=False, end=_NEVER_STARTED)) as bed:
        await bed.stories.resume(_remembered(bed))
        assert bed.trail == ["adopt", "give back", "forget", "record: gone"]


async def test_after_a_restart_a_known_end_is_told_without_looking_for_its_process(tmp_path: Path) -> None:
    async with _bed(tmp_path) as bed:
        await bed.stories.resume(_remembered(bed, step=Step.ENDED, end=_CODE_3))
        assert bed.trail == ["record: ended", "report: exited", "forget", "record: gone"]


async def test_a_stop_at_the_gate_leaves_the_record_to_the_next_start(tmp_path: Path) -> None:
    stuck = asyncio.Event()
    async with _bed(tmp_path, Plot(stuck_in_launch=stuck)) as bed:
        story = asyncio.create_task(bed.stories.new(samples.flow_run()))
        await stuck.wait()
        story.cancel()
        await asyncio.gather(story, return_exceptions=True)
        assert [record.step for record in bed.store.load_all()[0]] == [Step.CLAIMING]
        assert "gate" not in bed.trail
