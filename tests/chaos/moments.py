"""The moments at which an agent is killed: at a request, at a change of its records, or at any time."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chaos.mischief import operation_of
from support.agent import AgentProcess
from support.faults import Answer, Exchange, FaultyProxy, passed_on

_OPERATIONS = (
    "register",
    "poll",
    "read details",
    "set states",
    "read a claim back",
    "read an end",
    "look again",
    "other",
)
_WHEN = ("before", "applied", "answered")
_LATE = "set states late"
_FILES = ("+.json", "+.exit", "-.exit", "-.json")
_JUST_AFTER_SECONDS = 0.02
_LATE_SECONDS = 2.0  # shorter than a request may take until the agent believes that it can land no more
_ANY_TIME_SECONDS = 0.8
_LOOK_SECONDS = 0.001


def every_moment() -> list[str]:
    """Return the names of all moments: `set states applied`, `+.exit` (such a file has appeared), `any time`.

    `late` is a request that the API carries out some time after the agent that sent it is dead.
    """
    requests = [f"{operation} {when}" for operation in _OPERATIONS for when in _WHEN]
    return [*requests, _LATE, *_FILES, *["any time"] * 5]


class Moments:
    """Waits for moments in the life of one agent, whose requests all go through one proxy."""

    def __init__(self, agent: AgentProcess, proxy: FaultyProxy, chance: random.Random) -> None:
        self._agent = agent
        self._proxy = proxy
        self._chance = chance

    @contextmanager
    def coming(self, moment: str) -> Iterator[Callable[[float], None]]:
        """Give what waits for a moment, but for so many seconds at most. At a request the agent is dead by then."""
        if moment == "any time":
            seconds = self._chance.uniform(0, _ANY_TIME_SECONDS)
            yield lambda _: time.sleep(seconds)
        elif moment in _FILES:
            yield self._change_of_files(moment[0] == "+", moment[1:])
        else:
            most_seconds = _LATE_SECONDS if moment == _LATE else _JUST_AFTER_SECONDS
            stop = _Stop(moment, self._chance.uniform(0, most_seconds), lambda: self._agent.pid)
            self._proxy.add(stop)
            yield stop.wait
            self._proxy.clear()
            stop.join()

    def _change_of_files(self, appears: bool, suffix: str) -> Callable[[float], None]:
        before = self._files(suffix)

        def wait(most_seconds: float) -> None:
            nonlocal before
            until = time.monotonic() + most_seconds
            while time.monotonic() < until:
                now = self._files(suffix)
                if now - before if appears else before - now:
                    return
                before = now
                time.sleep(_LOOK_SECONDS)

        return wait

    def _files(self, suffix: str) -> set[str]:
        folder: Path = self._agent.state_dir / "runs"
        try:
            names = os.listdir(folder)  # noqa: PTH208 - a thousand times a second
        except FileNotFoundError:
            return set()
        return {name for name in names if name.endswith(suffix)}


class _Stop:
    """A fault for the proxy that kills the agent at a request, once."""

    def __init__(self, moment: str, later_seconds: float, pid: Callable[[], int]) -> None:
        self._operation, _, self._when = moment.rpartition(" ")
        self._later_seconds = later_seconds
        self._pid = pid
        self._came = threading.Lock()
        self._over = threading.Event()
        self._timer: threading.Timer | None = None

    def wait(self, most_seconds: float) -> None:
        """Return when the agent is dead, or it took too long to come to this."""
        self._over.wait(most_seconds)

    def join(self) -> None:
        """Return when nothing of this goes on."""
        if self._timer is not None:
            self._timer.join()

    def __call__(self, exchange: Exchange) -> Answer:
        """Kill the agent before the request reaches the API, before its answer comes back, or just after."""
        if operation_of(exchange.query) != self._operation or not self._came.acquire(blocking=False):
            return passed_on(exchange)
        agent = os.pidfd_open(self._pid())
        if self._when == "late":
            self._kill(agent)
            time.sleep(self._later_seconds)
            passed_on(exchange)
            return None
        answer = passed_on(exchange) if self._when != "before" else None
        if self._when != "answered":
            self._kill(agent)
            return None
        self._timer = threading.Timer(self._later_seconds, self._kill, [agent])
        self._timer.start()
        return answer

    def _kill(self, agent: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(agent, signal.SIGKILL)
        os.close(agent)
        self._over.set()
