"""What Prometheus may scrape at /metrics of --agent-address. Needs prometheus_client, which is optional.

`Metrics` holds the counters; `metering.py` counts. docs/commands/metrics.md lists them, and a test checks that list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from local_agent import __version__
from local_agent.linux import procfs
from local_agent.model import Cause, Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from local_agent.agent.admission import Admission
    from local_agent.agent.flow_run import Live, RunLifecycle
    from local_agent.agent.reachability import Reachability
    from local_agent.linux.cgroup import Figures
    from local_agent.model import Record

_PREFIX = "local_agent"
_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 30)
_RUN_LABELS = ("flow_run_id", "flow", "run")
_COUNTED: tuple[tuple[str, str, Callable[[Figures], float | None]], ...] = (
    ("cpu_seconds", "CPU time of live flow runs.", lambda figures: figures.cpu_seconds),
    ("read_bytes", "Bytes that live flow runs read from disks.", lambda figures: figures.read_bytes),
    ("written_bytes", "Bytes that live flow runs wrote to disks.", lambda figures: figures.written_bytes),
)
_GAUGED: tuple[tuple[str, str, Callable[[Figures], float | None]], ...] = (
    ("memory_bytes", "Memory of live flow runs.", lambda figures: figures.memory_bytes),
    ("memory_peak_bytes", "Most memory of live flow runs.", lambda figures: figures.memory_peak_bytes),
    ("tasks", "Processes and threads of live flow runs.", lambda figures: figures.tasks),
)
_Measured = list[tuple["Record", "Figures | None"]]
_Family = TypeVar("_Family", CounterMetricFamily, GaugeMetricFamily)


class Metrics:
    """The counters of one agent, in a registry of their own."""

    def __init__(self, instance: str) -> None:
        self._registry = CollectorRegistry()
        self.claims = self._counter(
            "claims", "Claims of flow runs, by what came of them: ours, lost, later.", "outcome"
        )
        self.launches = self._counter("launches", "Flow runs started.")
        self.launch_failures = self._counter("launch_failures", "Flow runs that could not be started.")
        self.adopted = self._counter("adopted", "Flow runs of an earlier process of the agent, taken up again.")
        self.given_back = self._counter("given_back", "Flow runs given back to the queue, as their process never ran.")
        self.ends = self._counter("ends", "Flow runs that ended, by cause.", "cause")
        self.reported = self._counter("ends_reported", "Ends that the API did not know of and was told.")
        self.reported_late = self._counter("ends_delayed", "Ends that could not be reported at once.")
        self.heartbeats = self._counter("heartbeats_sent", "Heartbeats sent for flow runs that live and send none.")
        self.problems = self._counter("problems", "Warnings and errors that the agent said, by severity.", "severity")
        self.api_errors = self._counter("api_errors", "Requests to the API that failed, by kind of failure.", "kind")
        self.api_seconds = self._histogram("api_request_seconds", "How long requests to the API took.")
        self.poll_seconds = self._histogram("poll_seconds", "How long polls of the queue took.")
        self.launch_seconds = self._histogram("launch_seconds", "How long it took to start a process and its scope.")
        self._begin_at_zero()
        info = Gauge(f"{_PREFIX}_info", "The agent.", ("version", "agent"), registry=self._registry)
        info.labels(__version__, instance).set(1)

    def _begin_at_zero(self) -> None:
        """A counter that first appears with its first event shows no increase: that of the alert would be missed."""
        for cause in Cause:
            self.ends.labels(cause.value)
        for outcome in Claim:
            self.claims.labels(outcome.value)
        for severity in ("error", "warning"):
            self.problems.labels(severity)
        for kind in ("credential", "refused", "unreachable"):
            self.api_errors.labels(kind)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"{_PREFIX}_{name}", text, buckets=_FAST, registry=self._registry)

    def watch(self, state: Callable[[], Iterable[Metric]]) -> None:
        """Ask `state` at each scrape."""
        self._registry.register(_Asked(state))

    def render(self) -> bytes:
        """Return everything in Prometheus's text format. Called from the thread that serves /metrics."""
        return generate_latest(self._registry)


class _Asked:
    def __init__(self, state: Callable[[], Iterable[Metric]]) -> None:
        self._state = state

    def describe(self) -> list[Metric]:
        """Nothing is asked when it is registered, only when it is scraped."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Ask now."""
        yield from self._state()


def state(lifecycle: RunLifecycle, admission: Admission, reachability: Reachability) -> Iterator[Metric]:
    """Return how the agent stands; asked at each scrape, from the thread that serves it."""
    live = list(lifecycle.live.values())
    yield _gauge("runs", "Flow runs that live here.", len(live))
    yield _gauge("slots_taken", "Slots that are taken.", admission.held)
    yield _gauge("slots_free", "Slots that are free; absent without a limit.", admission.free())
    yield _gauge("draining", "Whether no flow run is taken because somebody said so.", int(admission.draining))
    yield _gauge("api_reachable", "Whether the API answers.", int(reachability.lost_for_seconds is None))
    yield _gauge("api_answered_seconds_ago", "Time since its last answer.", reachability.answered_seconds_ago)
    yield _pressure()
    yield from usage(live)


def _gauge(name: str, text: str, value: float | None) -> Metric:
    """Return a gauge; without a sample where there is no value."""
    family = GaugeMetricFamily(f"{_PREFIX}_{name}", text)
    if value is not None:
        family.add_metric((), value)
    return family


def _pressure() -> Metric:
    """Return the machine's pressure."""
    family = GaugeMetricFamily(
        f"{_PREFIX}_pressure_percent",
        "Share of the last 10 s in which some task waited, by resource.",
        labels=["resource"],
    )
    for resource in ("cpu", "memory", "io"):
        share = procfs.pressure_percent(resource)
        if share is not None:
            family.add_metric((resource,), share)
    return family


def usage(runs: Iterable[Live]) -> Iterator[Metric]:
    """Return what each live flow run uses, where its launcher can tell."""
    measured = [(live.record, live.process.usage()) for live in runs]
    for name, text, value in _COUNTED:
        yield _filled(CounterMetricFamily(f"{_PREFIX}_run_{name}", text, labels=_RUN_LABELS), measured, value)
    for name, text, value in _GAUGED:
        yield _filled(GaugeMetricFamily(f"{_PREFIX}_run_{name}", text, labels=_RUN_LABELS), measured, value)


def _filled(family: _Family, measured: _Measured, value: Callable[[Figures], float | None]) -> _Family:
    for record, figures in measured:
        number = value(figures) if figures is not None else None
        if number is not None:
            family.add_metric((record.id, record.flow_name, record.name), number)
    return family
