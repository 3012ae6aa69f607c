"""What a figure is: a name, how it is measured, the rows that come of it, and what they must reach."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.bed import Bed


PROCESS, SCOPE = "process", "scope"


class Bound(Enum):
    """What a reach is compared with."""

    RATIO_AT_MAX = "ratio <= {:g}"
    RATIO_AT_MIN = "ratio >= {:g}"
    OURS_AT_MAX = "ours <= {:g}"


@dataclass(frozen=True)
class Reach:
    """What a row must reach."""

    bound: Bound
    value: float

    def __str__(self) -> str:
        return self.bound.value.format(self.value)

    def is_met(self, ours: float, ratio: float | None) -> bool:
        """Given our median and its ratio to theirs, tell whether that is enough."""
        if self.bound is Bound.OURS_AT_MAX:
            return ours <= self.value
        if ratio is None:
            return False
        return ratio <= self.value if self.bound is Bound.RATIO_AT_MAX else ratio >= self.value


def ratio_at_most(value: float) -> Reach:
    """Ours over theirs must not be more."""
    return Reach(Bound.RATIO_AT_MAX, value)


def ratio_at_least(value: float) -> Reach:
    """Ours over theirs must not be less."""
    return Reach(Bound.RATIO_AT_MIN, value)


def ours_at_most(value: float) -> Reach:
    """Ours must not be more, whatever theirs is."""
    return Reach(Bound.OURS_AT_MAX, value)


@dataclass(frozen=True)
class Spread:
    """The middle and the ends of some samples."""

    least: float
    median: float
    most: float
    count: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Given at least one sample."""
        return cls(min(samples), statistics.median(samples), max(samples), len(samples))


@dataclass(frozen=True)
class Row:
    """One line of the table. A side that was not measured has no samples."""

    title: str
    unit: str
    theirs: Sequence[float]
    ours: Sequence[float]
    reach: Reach | None = None

    @property
    def ratio(self) -> float | None:
        """Our median over theirs, None where that says nothing."""
        if not (self.theirs and self.ours) or not Spread.of(self.theirs).median:
            return None
        return Spread.of(self.ours).median / Spread.of(self.theirs).median

    @property
    def is_reached(self) -> bool | None:
        """Whether it reaches what it must, None where it need not reach anything."""
        if self.reach is None or not self.ours:
            return None
        return self.reach.is_met(Spread.of(self.ours).median, self.ratio)


@dataclass(frozen=True)
class Figure:
    """Something to measure, under the name by which ONLY= chooses it.

    `launcher` is how our agent launches flow runs; scopes need a systemd that runs as process 1.
    """

    name: str
    measure: Callable[[Bed], list[Row]]
    launcher: str = PROCESS

    @property
    def explanation(self) -> str:
        """What is measured, from where to where: the words at the top of its module."""
        return (sys.modules[self.measure.__module__].__doc__ or "").strip()

    def in_scopes(self) -> Figure:
        """Return the same figure, with flow runs in scopes."""
        return Figure(f"{self.name}-scope", self.measure, SCOPE)
