"""Builds the agent from its settings and runs it. The only file that knows the concrete classes.

The order of `_run` is the order of life: what is entered first is left last.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

from local_agent import __version__, events
from local_agent.agent.admission import Admission
from local_agent.agent.fitness import Fitness
from local_agent.agent.flow_run import RunLifecycle
from local_agent.agent.interpreter import Interpreter
from local_agent.agent.loop import Agent
from local_agent.agent.progress import Progress
from local_agent.agent.reachability import Reachability
from local_agent.agent.recovery import forgotten, remembered
from local_agent.aio.clock import SystemClock
from local_agent.aio.outbox import DescriptorSink, complaints_never_block
from local_agent.aio.threads import Workers
from local_agent.backends import kind
from local_agent.events import ConsoleLog, JournalLog, priority_of
from local_agent.launchers import registry
from local_agent.launchers.belongings import Belongings
from local_agent.launchers.follow import Follower
from local_agent.launchers.output import FileOutput, JournalOutput, Output
from local_agent.linux.capacity import raise_descriptors
from local_agent.net import control
from local_agent.service import health, metering
from local_agent.service.commands import Operations
from local_agent.service.lifecycle import Current, Service
from local_agent.service.reaper import reap_orphans
from local_agent.service.settings_in_force import InForce
from local_agent.settings import SourceKind
from local_agent.store.records import Store, opened, opened_first_free
from local_agent.systemd import journal
from local_agent.systemd.notify import ServiceNotifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from local_agent.agent.fitness import Check
    from local_agent.events import EventLog
    from local_agent.launchers import Launcher
    from local_agent.launchers.own_service import OwnService
    from local_agent.model import Record
    from local_agent.settings import Settings

_DISK_THREADS = 4
_LAST_WORDS_SECONDS = 1.5  # at the end, for each reader that does not read


def run(settings: Settings, environ: Mapping[str, str], read_again: Callable[[], Settings]) -> None:
    """Run the agent until a signal stops it or its polls are used up.

    `read_again` reads the settings anew at a reload. Raise LocalAgentError where it cannot start.
    """
    # a flow run's process inherits what is blocked here, and one with SIGINT blocked cannot be cancelled
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    asyncio.run(_run(Current(settings), environ, read_again))


async def _run(current: Current, environ: Mapping[str, str], read_again: Callable[[], Settings]) -> None:
    settings, clock = current.now, SystemClock()
    descriptors = raise_descriptors()
    async with contextlib.AsyncExitStack() as stack:
        counters = metering.counters_for(settings)
        stack.enter_context(complaints_never_block(sys.stderr.fileno(), _LAST_WORDS_SECONDS))
        event_log = _event_log(current, environ, clock)
        stack.callback(event_log.close, _LAST_WORDS_SECONDS)
        log = metering.metered_log(event_log, counters)
        notifier = ServiceNotifier(environ)
        stack.callback(notifier.close, _LAST_WORDS_SECONDS)
        asyncio.get_running_loop().set_exception_handler(functools.partial(_say_loops_trouble, log))
        store = stack.enter_context(_opened_store(settings))
        disk = Workers("disk", _DISK_THREADS)
        stack.callback(disk.close)

        follower, output = _output(settings, event_log)
        say_left = functools.partial(_say_left, log)
        files = Belongings(store.base_of, disk, say_left)
        needs = registry.Needs(current, environ, files, output, clock, descriptors)
        starting = await stack.enter_async_context(registry.opened(needs))
        launcher = metering.metered_launcher(starting.launcher, counters)

        api = kind(settings.protocol)
        observed = metering.observer(counters)
        backend = metering.metered_backend(api.make(current, environ, clock, observed), counters)
        stack.callback(backend.close)
        interpreter = Interpreter(current, api.needs, disk, clock, log, starting.enclosed)
        checks: list[Check] = [
            lambda in_doubt: launcher.reason_against(in_doubt=in_doubt),
            lambda _: disk.run(store.shortage),
            lambda _: interpreter.reason_against(),
        ]
        fitness = Fitness(checks, clock)
        admission = Admission(current, launcher, fitness.reason_against)
        admission.draining = store.draining
        reachability = Reachability(log, clock)
        progress = Progress(clock.monotonic)
        lifecycle = RunLifecycle(
            backend=backend,
            launcher=launcher,
            launchers=starting.takes_up,
            store=store,
            disk=disk,
            admission=admission,
            fitness=fitness,
            clock=clock,
            log=log,
            settings=current,
            claims_at_once=descriptors.claims_at_once,
            on_startup_failure=interpreter.doubt,
        )
        agent = Agent(
            backend=backend,
            lifecycle=lifecycle,
            admission=admission,
            reachability=reachability,
            progress=progress,
            clock=clock,
            log=log,
            settings=current,
            fitness=fitness,
            shut_down=launcher.shut_down if os.getpid() == 1 else None,
            ends_with=launcher.ends_with,
        )
        service = Service(current, read_again, agent, admission, store, notifier, clock, log)
        if settings.agent_address is not None:
            loop = asyncio.get_running_loop()
            stack.enter_context(
                health.served(
                    settings.agent_address,
                    health.Pages(
                        lambda: health.judge(progress, reachability, current.now.unhealthy_after_seconds),
                        lambda: _soon(loop, agent.poke),
                        metering.page_of(counters, lifecycle, admission, reachability),
                    ),
                )
            )
        operations = Operations(agent, lifecycle, backend, admission, reachability, current, launcher.name)
        in_force = InForce(current, read_again)
        stack.callback(in_force.close)
        await stack.enter_async_context(
            control.served(
                store.folder,
                {**service.commands(), **operations.commands(), **in_force.commands()},
                operations.run_commands(),
                on_fault=lambda trace: log.say(events.INTERNAL_ERROR, reason=trace),
            )
        )
        _say_start(log, settings, store.folder, launcher, starting.words)
        _say_what_ends(log, starting.service, starting.because)
        records = remembered(store, starting.takes_up.keys(), log)
        records += forgotten(store, launcher, log, leftovers=settings.leftovers == "stop")
        notifier.notify("READY=1", f"STATUS={agent.status()}")
        beside = [follower.for_ever, lambda: service.keep_telling(progress)]
        if os.getpid() == 1:
            beside.append(lambda: _reap_for_ever(starting.pids))
        await service.run_until_stopped(lambda: agent.run(records, store.ids()), beside)


def _opened_store(settings: Settings) -> contextlib.AbstractContextManager[Store]:
    """Agents that nobody named may run side by side, as those of the original may; a named folder has one agent."""
    if settings.is_named or settings.sources["state_dir"].kind is not SourceKind.DEFAULT:
        return opened(Store(settings.state_dir))
    return opened_first_free(settings.state_dir)


def _event_log(current: Current, environ: Mapping[str, str], clock: SystemClock) -> JournalLog | ConsoleLog:
    def least_priority() -> int:
        return priority_of(current.now.log_level)

    if _is_under_journal(environ):
        return JournalLog(journal.EntrySink(), current.now.instance, least_priority)
    console = DescriptorSink(sys.stdout.fileno(), "the console")
    return ConsoleLog(console, current.now.name, clock.now, least_priority)


def _is_under_journal(environ: Mapping[str, str]) -> bool:
    """Tell whether our standard output is the journal's (systemd.exec(5), JOURNAL_STREAM)."""
    status = os.fstat(sys.stdout.fileno())
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _output(settings: Settings, log: JournalLog | ConsoleLog) -> tuple[Follower, Output]:
    console = log.outbox if settings.show_flow_logs and isinstance(log, ConsoleLog) else None
    follower = Follower(console, is_terminal=sys.stdout.isatty())
    output: Output = FileOutput(follower) if console or not journal.is_there() else JournalOutput()
    return follower, output


def _say_start(log: EventLog, settings: Settings, folder: Path, launcher: Launcher, manager: str) -> None:
    for warning in settings.warnings:
        log.say(events.SETTING_WARNING, warning=warning)
    log.say(events.STARTED, version=__version__, launcher=launcher.name, manager=manager)
    if folder != settings.state_dir:
        log.say(events.UNNAMED_BESIDE, folder=folder)


def _say_what_ends(log: EventLog, service: OwnService, reason: str) -> None:
    if service.takes_all_along:
        log.say(events.ENDS_WITH_SERVICE, reason=reason, unit=service.unit, kill_mode=service.kill_mode)


def _say_left(log: EventLog, record: Record, left: str) -> None:
    log.say(events.LEFT_ALIVE, events.Subject(record.id, record.name, record.flow_name), left=left)


def _say_loops_trouble(log: EventLog, _loop: asyncio.AbstractEventLoop, trouble: dict[str, Any]) -> None:
    """What asyncio itself would print as a traceback: a connection that cannot be taken at a limit, a fault of ours."""
    error = trouble.get("exception")
    if isinstance(error, OSError):
        log.say(events.STATE_PROBLEM, reason=f"{trouble.get('message')}: {error.strerror or error}")
    else:
        trace = "".join(traceback.format_exception(error)) if error else ""
        log.say(events.INTERNAL_ERROR, reason=f"{trouble.get('message')}\n{trace}")


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(call)


async def _reap_for_ever(waited_for: Callable[[], set[int]]) -> None:
    while True:
        reap_orphans(waited_for)
        await asyncio.sleep(1)
