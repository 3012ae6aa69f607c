"""The agent as a service: its signals, its control commands, and what it tells systemd."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_agent import events
from local_agent.agent.guarded_loop import kept_up
from local_agent.errors import ConfigError, LocalAgentError
from local_agent.settings.reload import reload
from local_agent.systemd.notify import reloading, standing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from local_agent.agent.admission import Admission
    from local_agent.agent.loop import Agent
    from local_agent.agent.progress import Progress
    from local_agent.aio.clock import Clock
    from local_agent.events import EventLog
    from local_agent.settings import Settings
    from local_agent.store.records import Store
    from local_agent.systemd.notify import Notifier

_STATUS_SECONDS = 2.0
_WATCHDOG_SHARE = 3  # three signs of life in the time that systemd waits for one


@dataclass
class Current:
    """The settings in force; a reload replaces them."""

    now: Settings

    def __call__(self) -> Settings:
        """Return them."""
        return self.now


class Service:
    """What the agent is to systemd and to its signals: ready, reloading, alive, stopping."""

    def __init__(
        self,
        current: Current,
        read_again: Callable[[], Settings],
        agent: Agent,
        admission: Admission,
        store: Store,
        notifier: Notifier,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._current = current
        self._admission = admission
        self._store = store
        self._read_again = read_again
        self._agent = agent
        self._notifier = notifier
        self._clock = clock
        self._log = log
        self._reason_to_stop = ""
        self._reloads: set[asyncio.Task[None]] = set()

    def commands(self) -> Mapping[str, Callable[[], Awaitable[str]]]:
        """Return what the control socket offers."""
        return {
            "poke": self._poke,
            "reload": self.reload,
            "status": self._status,
            "drain": lambda: self._drain(draining=True),
            "undrain": lambda: self._drain(draining=False),
            "live": self._live,
        }

    async def run_until_stopped(
        self, main: Callable[[], Awaitable[None]], beside: Sequence[Callable[[], Awaitable[None]]]
    ) -> None:
        """Run the agent, and loops beside it; SIGTERM and SIGINT stop it, SIGHUP reloads, SIGUSR1 polls.

        Where it was started on a terminal, SIGHUP stops it once that is closed; under nohup(1) it does nothing.
        """
        loop = asyncio.get_running_loop()
        tasks = [asyncio.ensure_future(kept_up(one, self._clock, self._log)) for one in beside]
        running = asyncio.ensure_future(main())
        handled = {
            signal.SIGTERM: lambda: self._stop(running, "SIGTERM"),
            signal.SIGINT: lambda: self._stop(running, "SIGINT"),
            signal.SIGUSR1: self._agent.poke,
        }
        on_terminal = _has_terminal()
        if not (on_terminal and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN):
            handled[signal.SIGHUP] = functools.partial(self._hang_up, running, on_terminal=on_terminal)
        for number, handler in handled.items():
            loop.add_signal_handler(number, handler)
        try:
            await running
        except asyncio.CancelledError:
            if not self._reason_to_stop:
                raise
        finally:
            for number in handled:
                loop.remove_signal_handler(number)
            for task in (*tasks, *self._reloads):
                task.cancel()
            await asyncio.gather(*tasks, *self._reloads, return_exceptions=True)

    async def keep_telling(self, progress: Progress) -> None:
        """Tell systemd how things stand, and that the loop comes round: never once it is stuck."""
        interval = self._notifier.watchdog_seconds
        pause = min(_STATUS_SECONDS, interval / _WATCHDOG_SHARE) if interval else _STATUS_SECONDS
        told = ("", "")
        while True:
            if not progress.is_stuck:
                self._notifier.notify("WATCHDOG=1")
            said = standing(self._agent.status(), api_is_lost=self._agent.has_lost_api)
            if said != told:
                self._notifier.notify(*said)
                told = said
            await asyncio.sleep(pause)

    async def reload(self) -> str:
        """Read the settings again; what is wrong with them is raised, and the old ones stay."""
        self._notifier.notify(*reloading())
        try:
            outcome = reload(self._current.now, self._read_again())
        except LocalAgentError as error:
            problems = error.problems if isinstance(error, ConfigError) else ()
            self._log.say(events.RELOAD_FAILED, reason="; ".join([error.message, *problems]))
            raise
        finally:
            self._notifier.notify("READY=1")
        self._current.now = outcome.settings
        self._log.say(events.RELOADED, changed=outcome.in_words())
        if outcome.changed:
            self._agent.settings_changed()
        return outcome.in_words()

    def _hang_up(self, running: asyncio.Future[None], *, on_terminal: bool) -> None:
        if on_terminal and not _has_terminal():
            self._stop(running, "SIGHUP: its terminal was closed")
        else:
            self._reload_later()

    def _reload_later(self) -> None:
        async def reload_quietly() -> None:
            with contextlib.suppress(LocalAgentError):  # said in the journal
                await self.reload()

        task = asyncio.create_task(reload_quietly())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _poke(self) -> str:
        self._agent.poke()
        return "polling now"

    async def _status(self) -> str:
        return self._agent.status()

    async def _live(self) -> str:
        return str(self._agent.live_count)

    async def _drain(self, *, draining: bool) -> str:
        self._store.set_draining(draining=draining)
        self._admission.draining = draining
        self._agent.poke()
        count = self._agent.live_count
        return f"draining: no flow run is taken, {count} running" if draining else "flow runs are taken again"

    def _stop(self, running: asyncio.Future[None], reason: str) -> None:
        if self._reason_to_stop:
            return
        self._reason_to_stop = reason
        self._notifier.notify("STOPPING=1")
        self._log.say(events.STOPPING, reason=reason, live=self._agent.live_count, fate=self._agent.fate)
        running.cancel()


def _has_terminal() -> bool:
    """Tell whether this process has a controlling terminal that is open (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
