"""The life of one flow run, from the queue to its end: read `RunLifecycle.execute` from top to bottom.

Each step survives a kill -9 before, in and after it. The record on disk says what was under way, and at the next start
`RunLifecycle.recover` finishes it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from local_agent import events
from local_agent.agent.epilogues import Epilogues
from local_agent.aio.batching import Batcher
from local_agent.aio.clock import Backoff
from local_agent.errors import LaunchError, LocalAgentError, StateError
from local_agent.events import Subject
from local_agent.linux import procfs
from local_agent.model import Cause, Claim, End, Outcome, Record, Step
from local_agent.settings.limits import parse_hints
from local_agent.wording import cost_sentence, end_fields, sentence

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from local_agent.agent.admission import Admission
    from local_agent.agent.fitness import Fitness
    from local_agent.aio.clock import Clock
    from local_agent.aio.threads import Workers
    from local_agent.backends import Claims
    from local_agent.events import EventLog
    from local_agent.launchers import Launcher, LiveRun
    from local_agent.limits import Limits
    from local_agent.model import FlowRun
    from local_agent.settings import Settings
    from local_agent.store.records import Store

_Result = TypeVar("_Result")

_AGAIN_SECONDS = 30.0  # how long a run is left alone that could not be claimed or started now
_NAP_SECONDS = 5.0  # the wall clock may jump while a run waits for its time
_INSIST_SECONDS = 10.0  # after an outage an end is told as soon as the queue is asked again
_NO_INTERPRETER = frozenset({1, 126, 127})  # exit codes of python without the module, of sh without the file
_RECORDS_AT_ONCE = 50
_ROUNDING_SECONDS = 0.01  # started a moment before its time, a flow run may find that it is not to run yet


@dataclass(frozen=True, slots=True)
class Live:
    """A flow run whose process is past the gate."""

    record: Record
    process: LiveRun


class RunLifecycle:
    """Runs the life cycle of each flow run; `live` holds the running ones, by id.

    `claims_at_once` bounds how many records of claims are open at the same time.
    It calls `on_startup_failure` if an exit code suggests that the interpreter, or prefect in it, is missing.
    """

    def __init__(
        self,
        *,
        backend: Claims,
        launcher: Launcher,
        launchers: Mapping[str, Launcher],
        store: Store,
        disk: Workers,
        admission: Admission,
        fitness: Fitness,
        clock: Clock,
        log: EventLog,
        settings: Callable[[], Settings],
        claims_at_once: int,
        on_startup_failure: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._launcher = launcher
        self._launchers = launchers
        self._store = store
        self._disk = disk
        self._admission = admission
        self._fitness = fitness
        self._clock = clock
        self._log = log
        self._settings = settings
        self._on_early_end = on_startup_failure
        # the records of a page of the queue reach the disk together, and then its claims share a request
        self._claim_records: Batcher[Record, None] = Batcher(
            self._save_claims, most=claims_at_once, first=claims_at_once, monotonic=clock.monotonic
        )
        # what is to be written while a thread writes goes to it together: to wake one costs more than to write
        self._later_records: Batcher[Record, None] = Batcher(
            self._save_all, most=_RECORDS_AT_ONCE, first=_RECORDS_AT_ONCE, monotonic=clock.monotonic
        )
        self._launches = asyncio.Lock()
        self._epilogues = Epilogues(backend, self._launcher_of, log)
        self.live: dict[str, Live] = {}
        self.claiming: set[str] = set()
        self.launching: set[str] = set()
        # Ids whose end is being reported and must not wait for the next start: the agent's stop waits for these.
        self.reporting: set[str] = set()

    async def execute(self, run: FlowRun, parent: str = "") -> float:
        """Take a run from the queue and see it to its end. Return for how many seconds to leave its id alone then.

        `parent` is the flow run here that has created it, "" for none.
        """
        await self._until_due(run)
        if not self._admission.take(run.id, parent):
            return 0.0
        self._fitness.taken()
        try:
            self.launching.add(run.id)
            self.claiming.add(run.id)
            record = await self._record(run)
            if record is None:
                return _AGAIN_SECONDS
            claim = await self._backend.claim(run, record.nonce)
            self.claiming.discard(run.id)
            if claim is not Claim.OURS:
                return await self._forget_lost_claim(record, claim)
            live = await self._launch(run, record)
            self.launching.discard(run.id)
            if live is None:
                return _AGAIN_SECONDS
            await self._watch_to_the_end(live)
            return 0.0
        finally:
            self.claiming.discard(run.id)
            self.launching.discard(run.id)
            self._admission.leave(run.id)

    async def recover(self, record: Record) -> None:
        """Finish what an earlier process of this agent began with a run."""
        self._admission.hold(record.id)
        try:
            if record.step is Step.CLAIMING:
                await self._settle_old_claim(record)
            elif record.step is Step.ENDED and record.end is not None:
                await self._report(record, record.end)
            else:
                await self._adopt_or_conclude(record)
        finally:
            self._admission.leave(record.id)

    def let_go(self, flow_run_id: str) -> None:
        """After a fault of ours, let go of what a run holds here, but for its place: its process may live."""
        live = self.live.pop(flow_run_id, None)
        if live is not None:
            live.process.detach()
            self._admission.hold(flow_run_id)

    async def retry_from_record(self, flow_run_id: str) -> None:
        """After `let_go`, go on from the run's record, as the next start would. Without a record it is over."""
        record = await self._disk.run(lambda: self._store.load(flow_run_id))
        if record is None:
            self._admission.leave(flow_run_id)
        else:
            await self.recover(record)

    async def _until_due(self, run: FlowRun) -> None:
        while (wait := (run.due - self._backend.earlier_now()).total_seconds() + _ROUNDING_SECONDS) > 0:
            await self._clock.sleep(min(wait, _NAP_SECONDS))

    async def _record(self, run: FlowRun) -> Record | None:
        """Write down that a claim is under way, before the API is told. None where the disk refuses."""
        record = Record(
            id=run.id,
            name=run.name,
            flow_name=run.flow_name,
            nonce=self._backend.nonce(),
            step=Step.CLAIMING,
            boot_id=procfs.boot_id(),
            due=run.due,
            claimed_at=self._clock.now(),
            launcher=self._launcher.name,
            backend=self._backend.name,
            ticket=self._backend.ticket(run),
        )
        try:
            await self._claim_records.ask(record)
        except StateError as error:
            self._log.say(events.STATE_PROBLEM, _subject(record), reason=error.message)
            self._fitness.launch_failed(error.message)
            return None
        return record

    async def _forget_lost_claim(self, record: Record, claim: Claim) -> float:
        """Forget a run that is not ours."""
        self._store.remove(record.id)
        self._log.say(events.CLAIM_LOST, _subject(record))
        return _AGAIN_SECONDS if claim is Claim.LATER else 0.0

    async def _launch(self, run: FlowRun, record: Record) -> Live | None:
        """Start its process, write down which, open the gate. None where that failed; then nothing is left of it."""
        await self._turn()
        try:
            child = await self._backend.child(run)
            limits = self._limits(run, child.asked)
            process = await self._launcher.launch(record, child, limits)
        except LaunchError as error:
            await self._refuse(record, error)
            return None
        except LocalAgentError as error:  # this machine's fault, or the API's
            self._fitness.launch_failed(error.message)
            await self._give_back(record, error.message)
            return None
        running = replace(
            record,
            step=Step.RUNNING,
            handle=process.handle,
            limits=limits,
            stops_itself=child.stops_itself,
            sends_heartbeat=child.sends_heartbeat,
            gate_at_seconds=self._clock.now().timestamp(),
            gate_at_monotonic_seconds=self._clock.monotonic(),
        )
        try:
            await self._later_records.ask(running)
        except BaseException as error:
            await process.abandon()
            if not isinstance(error, StateError):
                raise
            self._fitness.launch_failed(error.message)
            await self._give_back(record, error.message)
            return None
        self._fitness.launched()
        live = self.live[run.id] = Live(running, process)
        process.open_gate()
        self._say_where(events.LAUNCHED, live)
        self._backend.launched(running, live.process.where)
        return live

    async def _turn(self) -> None:
        """Launch one after another, with a turn of the loop between: launches overlap the next page's claims."""
        async with self._launches:
            await asyncio.sleep(0)

    async def _watch_to_the_end(self, live: Live) -> None:
        """Watch it to its end, sweep, learn how it ended, report, forget."""
        record, process = live.record, live.process
        await process.ended()
        self.reporting.add(record.id)
        try:
            if self._settings().leftovers == "stop":
                await self._until_done(record, process.sweep)
            end = await self._until_done(record, process.evidence)
            self.live.pop(record.id, None)
            process.detach()  # its place is free now, and its descriptors must not wait for the API
            if end.cause is Cause.EXITED and end.exit_code in _NO_INTERPRETER:
                self._on_early_end()
            if end.cause not in (Cause.SHUTDOWN, Cause.SERVICE_STOPPED):  # the agent is about to stop, too
                self.reporting.discard(record.id)
            await self._report(record, end, process)
        finally:
            self.reporting.discard(record.id)

    async def _adopt_or_conclude(self, record: Record) -> None:
        found = await self._until_done(record, lambda: self._launcher_of(record).adopt(record))
        if isinstance(found, End):
            await self._report(record, found)
        else:
            await self._watch_adopted(record, found)

    async def _watch_adopted(self, record: Record, process: LiveRun) -> None:
        live = self.live[record.id] = Live(record, process)
        self._say_where(events.ADOPTED, live)
        await self._watch_to_the_end(live)

    def _launcher_of(self, record: Record) -> Launcher:
        """Return the launcher that a record is about; a claim of an earlier version does not name it."""
        return self._launchers[record.launcher] if record.launcher else self._launcher

    async def _settle_old_claim(self, record: Record) -> None:
        if self._is_of_another_api(record):
            return
        if not self._launcher_of(record).may_live(record):
            # the records that came after this one went with the power, and so did its process
            await self._report(record, End(Cause.POWER_LOST))
            return
        claim = await self._backend.claimed(record)
        if claim is not Claim.OURS:
            self._store.remove(record.id)
            return
        # if a trace says that the gate opened, the record that said so is lost, and it is not to run twice
        found = await self._until_done(record, lambda: self._launcher_of(record).adopt(record))
        if not isinstance(found, End):
            await self._watch_adopted(record, found)
        elif found.cause is Cause.NEVER_STARTED:
            await self._give_back(record, "the agent ended before it could start it")
        else:
            await self._report(record, found)

    async def _report(self, record: Record, end: End, process: LiveRun | None = None) -> None:
        """Report an end, or find that it needs no word, and forget the run. Lasts as long as an outage does."""
        self._admission.leave(record.id)
        if self._is_of_another_api(record):
            await self._note_end(record, end)
            return
        if end.cause is Cause.NEVER_STARTED:
            await self._give_back(record, sentence(end).lower(), process)
            return
        if end.is_clean and self._may_have_begun_early(record):
            end = replace(end, may_have_begun_early=True)
        await self._note_end(record, end)
        policy = self._settings().on_crash
        outcome = Outcome.NOT_OURS
        if record.nonce:  # without, it lives here and nothing proves whose claim it rests on
            outcome = await self._until_done(record, lambda: self._backend.report(record, end, policy))
        self._say_end(record, end, outcome)
        if outcome is Outcome.REPORTED:
            await self._epilogues.after(record, end, lambda: self._let_go_of(record, process))
        await self._forget(record, process)

    def _is_of_another_api(self, record: Record) -> bool:
        """Tell whether a flow run was claimed at an API of another kind, and say so: its record waits for that one."""
        is_one = record.backend not in ("", self._backend.name)
        if is_one:
            self._log.say(events.OTHER_API, _subject(record), kind=record.backend)
        return is_one

    def _may_have_begun_early(self, record: Record) -> bool:
        """Tell whether the wall clock may have stood before the run's start when its process looked at it.

        Then Prefect's own code ends with 0 and has done nothing. The clock stood there when the gate opened, or was set
        back since: what it showed then is what it shows now less the time that has passed on the monotonic one.
        """
        if record.gate_at_seconds is None or record.gate_at_monotonic_seconds is None:
            return False
        passed = self._clock.monotonic() - record.gate_at_monotonic_seconds
        return min(record.gate_at_seconds, self._clock.now().timestamp() - passed) < record.due.timestamp()

    async def _note_end(self, record: Record, end: End) -> None:
        """Keep the evidence on disk until the API has taken it. A full disk must not keep the API from being told."""
        try:
            await self._later_records.ask(replace(record, step=Step.ENDED, end=end))
        except StateError as error:
            self._log.say(events.STATE_PROBLEM, _subject(record), reason=error.message)

    async def _give_back(self, record: Record, reason: str, process: LiveRun | None = None) -> None:
        if (
            record.nonce
            and await self._until_done(record, lambda: self._backend.give_back(record)) is Outcome.GIVEN_BACK
        ):
            self._log.say(events.GIVEN_BACK, _subject(record), reason=reason)
        await self._forget(record, process)

    async def _refuse(self, record: Record, error: LaunchError) -> None:
        self._log.say(events.LAUNCH_FAILED, _subject(record), reason=error.message)
        self._backend.log(record.id, error.message, "ERROR")
        await self._until_done(record, lambda: self._backend.refuse(record, error.message))
        await self._forget(record)

    async def _forget(self, record: Record, process: LiveRun | None = None) -> None:
        """Let go of what is kept for a run. Its record goes last: killed before that, the next start lets go of it."""
        await self._let_go_of(record, process)
        self._store.remove(record.id)

    async def _let_go_of(self, record: Record, process: LiveRun | None) -> None:
        launcher = self._launcher_of(record)
        await self._until_done(record, process.release if process else lambda: launcher.forget(record))

    async def _until_done(self, record: Record, action: Callable[[], Awaitable[_Result]]) -> _Result:
        """Do something until it works: the record stays on disk, so nothing is lost if the agent ends meanwhile."""
        backoff, said = Backoff(0.5, _INSIST_SECONDS), False
        while True:
            try:
                return await action()
            except LocalAgentError as error:
                self.reporting.discard(record.id)
                if not said:
                    self._log.say(events.REPORT_WAITS, _subject(record), reason=error.message)
                    said = True
                await self._clock.sleep(backoff.next_seconds())

    async def _save_all(self, records: Sequence[Record]) -> Sequence[Exception | None]:
        return await self._disk.run(lambda: self._store.save_all(records, durable=self._launcher.outlives_reboot))

    async def _save_claims(self, records: Sequence[Record]) -> Sequence[Exception | None]:
        return await self._disk.run(lambda: self._store.save_claims(records))

    def _limits(self, run: FlowRun, asked: Mapping[str, str]) -> Limits:
        settings = self._settings()
        limits, problems = parse_hints(asked, settings.limits, settings.ceilings)
        for problem in problems:
            self._log.say(events.HINT_PROBLEM, Subject(run.id, run.name, run.flow_name), reason=problem)
            self._backend.log(run.id, problem, "WARNING")
        return limits

    def _say_where(self, event: events.Event, live: Live) -> None:
        self._log.say(event, _subject(live.record), where=live.process.where)

    def _say_end(self, record: Record, end: End, outcome: Outcome) -> None:
        cost = cost_sentence(end.cost)
        how = sentence(end) + (f"; used {cost}" if cost else "")
        fields = {**end_fields(end), "outcome": outcome.value}
        if outcome is Outcome.GIVEN_BACK:
            self._log.say(events.GIVEN_BACK, _subject(record), reason=sentence(end).lower(), **fields)
        elif outcome is Outcome.NOTHING_TO_SAY:
            self._log.say(events.ENDED, _subject(record), how=how, **fields)
        else:
            self._log.say(events.CRASHED, _subject(record), how=how, told=_OUTCOMES[outcome], **fields)
        self._backend.log(record.id, how, "INFO" if end.is_clean else "ERROR")


_OUTCOMES = {
    Outcome.REPORTED: "reported to the API",
    Outcome.RESCHEDULED: "scheduled again",
    Outcome.NOT_OURS: "it is not known as this agent's, or another's by now",
}


def _subject(record: Record) -> Subject:
    return Subject(record.id, record.name, record.flow_name)
