"""Counting for /metrics: what the agent says, asks and starts is counted on its way, and nothing else knows of it."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from typing import TYPE_CHECKING, Any, cast

from local_agent import events
from local_agent.errors import ApiRefusedError, CredentialError, LocalAgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime

    from prometheus_client import Histogram

    from local_agent.agent.admission import Admission
    from local_agent.agent.flow_run import RunLifecycle
    from local_agent.agent.reachability import Reachability
    from local_agent.backends import Backend, Observe, QueuePage
    from local_agent.events import Event, EventLog, Subject
    from local_agent.launchers import Launcher, LiveRun
    from local_agent.limits import Limits
    from local_agent.model import Child, Claim, FlowRun, Record
    from local_agent.service.metrics import Metrics
    from local_agent.settings import Settings

_ERROR, _WARNING = 3, 4


class MeteredLog:
    """Counts events before it passes them on."""

    def __init__(self, log: EventLog, counters: Metrics) -> None:
        self._log = log
        self._counters = counters
        self._counted: dict[str, Callable[[], None]] = {
            events.LAUNCHED.message_id: counters.launches.inc,
            events.LAUNCH_FAILED.message_id: counters.launch_failures.inc,
            events.ADOPTED.message_id: counters.adopted.inc,
            events.GIVEN_BACK.message_id: counters.given_back.inc,
            events.CRASHED.message_id: counters.reported.inc,
            events.REPORT_WAITS.message_id: counters.reported_late.inc,
            events.HEARTBEAT_SENT.message_id: counters.heartbeats.inc,
        }

    def say(self, event: Event, subject: Subject | None = None, **fields: object) -> None:
        """Count and pass on."""
        count = self._counted.get(event.message_id)
        if count is not None:
            count()
        if event in (events.ENDED, events.CRASHED):
            self._counters.ends.labels(str(fields.get("cause", ""))).inc()
        if event.priority <= _WARNING:
            self._counters.problems.labels("error" if event.priority <= _ERROR else "warning").inc()
        self._log.say(event, subject, **fields)


def _kind_of(error: LocalAgentError) -> str:
    if isinstance(error, CredentialError):
        return "credential"
    return "refused" if isinstance(error, ApiRefusedError) else "unreachable"


class MeteredBackend:
    """A backend whose claims are counted and whose polls are timed; all else goes to it as it is."""

    def __init__(self, backend: Backend, counters: Metrics) -> None:
        self._backend = backend
        self._counters = counters

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of whatever type the backend has it
        return getattr(self._backend, name)

    async def due_runs(self, before: datetime, known: Collection[str]) -> QueuePage:
        """Poll, and time it."""
        with _timed(self._counters.poll_seconds):
            return await self._backend.due_runs(before, known)

    async def claim(self, run: FlowRun, nonce: str) -> Claim:
        """Claim, and count what came of it."""
        claim = await self._backend.claim(run, nonce)
        self._counters.claims.labels(claim.value).inc()
        return claim


class MeteredLauncher:
    """A launcher whose launches are timed; all else goes to it as it is."""

    def __init__(self, launcher: Launcher, counters: Metrics) -> None:
        self._launcher = launcher
        self._counters = counters

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of whatever type the launcher has it
        return getattr(self._launcher, name)

    async def launch(self, record: Record, child: Child, limits: Limits) -> LiveRun:
        """Start a process, and time it."""
        with _timed(self._counters.launch_seconds):
            return await self._launcher.launch(record, child, limits)


def counters_for(settings: Settings) -> Metrics | None:
    """Return what to count with; None where nobody can scrape it, or prometheus_client is not installed."""
    if settings.agent_address is None or importlib.util.find_spec("prometheus_client") is None:
        return None
    from local_agent.service.metrics import Metrics  # here, because it imports what is optional

    return Metrics(settings.instance)


def metered_log(log: EventLog, counters: Metrics | None) -> EventLog:
    """Return a log that counts, where there is something to count with."""
    return MeteredLog(log, counters) if counters is not None else log


def observer(counters: Metrics | None) -> Observe | None:
    """Return what times requests to the API and counts what came of them, where there is something to count with."""
    if counters is None:
        return None

    def observe(seconds: float, error: LocalAgentError | None) -> None:
        counters.api_seconds.observe(seconds)
        if error is not None:
            counters.api_errors.labels(_kind_of(error)).inc()

    return observe


def metered_backend(backend: Backend, counters: Metrics | None) -> Backend:
    """Return a backend whose claims and polls are counted, where there is something to count with."""
    return cast("Backend", MeteredBackend(backend, counters)) if counters is not None else backend


def metered_launcher(launcher: Launcher, counters: Metrics | None) -> Launcher:
    """Return a launcher whose launches are timed, where there is something to count with."""
    return cast("Launcher", MeteredLauncher(launcher, counters)) if counters is not None else launcher


def page_of(
    counters: Metrics | None, lifecycle: RunLifecycle, admission: Admission, reachability: Reachability
) -> Callable[[], bytes] | None:
    """Return what renders /metrics, None where there is nothing to render."""
    if counters is None:
        return None
    from local_agent.service import metrics

    counters.watch(lambda: metrics.state(lifecycle, admission, reachability))
    return counters.render


@contextlib.contextmanager
def _timed(histogram: Histogram) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        histogram.observe(time.monotonic() - began)
