"""What flow runs have used over the last looks: rates, and lines that show them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from local_agent.host.reading.runs import Run

_BARS = "▁▂▃▄▅▆▇█"
_MAX_SAMPLES = 61


@dataclass(frozen=True, slots=True)
class Sample:
    """What a flow run had used at a moment of the monotonic clock."""

    at_seconds: float
    cpu_seconds: float | None
    memory_bytes: int | None


class Histories:
    """The last samples of each flow run that is still there."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[Sample]] = {}

    def add(self, runs: Iterable[Run], at_seconds: float) -> None:
        """Take a sample of each run; those that are gone are forgotten."""
        kept: dict[str, deque[Sample]] = {}
        for run in runs:
            samples = kept[run.id] = self._samples.get(run.id) or deque(maxlen=_MAX_SAMPLES)
            samples.append(Sample(at_seconds, run.figures.cpu_seconds, run.figures.memory_bytes))
        self._samples = kept

    def cpu_percents(self, run_id: str) -> list[float]:
        """Return the CPU time used between each two samples, in percent of a CPU."""
        samples = list(self._samples.get(run_id, ()))
        return [_percent(before, after) for before, after in pairwise(samples)]

    def memory(self, run_id: str) -> list[float]:
        """Return the memory at each sample, in bytes; none where nothing counts it."""
        counts = [sample.memory_bytes for sample in self._samples.get(run_id, ())]
        return [float(count) for count in counts if count is not None]


def _percent(before: Sample, after: Sample) -> float:
    passed = after.at_seconds - before.at_seconds
    if before.cpu_seconds is None or after.cpu_seconds is None or passed <= 0:
        return 0.0
    return max(0.0, 100 * (after.cpu_seconds - before.cpu_seconds) / passed)


def summed(lines: Sequence[Sequence[float]]) -> list[float]:
    """Add up what several runs used, the latest together."""
    longest = max(map(len, lines), default=0)
    padded = [[0.0] * (longest - len(line)) + list(line) for line in lines]
    return [sum(values) for values in zip(*padded, strict=True)]


def sparkline(values: Sequence[float], width: int, most: float) -> str:
    """Return the last values as bars; `most` is as high as the highest."""
    last = list(values)[-width:]
    scale = max([most, *last]) or 1.0
    heights = (min(len(_BARS) - 1, int(value / scale * len(_BARS))) for value in last)
    return "".join(_BARS[height] for height in heights).rjust(width)
