"""The figures, each in a module that says what is measured, from where to where."""

from __future__ import annotations

from bench.figures import burst, idle, latency, real_flow, start
from bench.model import Figure

FIGURES: tuple[Figure, ...] = (
    start.FIGURE,
    idle.FIGURE,
    latency.DEFAULTS,
    latency.POKED,
    burst.RATE,
    burst.REQUESTS,
    real_flow.FIGURE,
)
