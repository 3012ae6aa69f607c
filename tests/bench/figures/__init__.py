"""The figures, each in a module that says what is measured, from where to where."""

from __future__ import annotations

from bench.figures import adoption, api, burst, floors, growth, idle, latency, live, real_flow, start, stop
from bench.model import Figure

FIGURES: tuple[Figure, ...] = (
    start.FIGURE,
    idle.FIGURE,
    latency.DEFAULTS,
    latency.POKED,
    latency.POKED.in_scopes(),
    burst.RATE,
    burst.RATE.in_scopes(),
    burst.REQUESTS,
    burst.REQUESTS.in_scopes(),
    real_flow.FIGURE,
    real_flow.FIGURE.in_scopes(),
    stop.FIGURE,
    adoption.FIGURE,
    adoption.FIGURE.in_scopes(),
    live.FIGURE,
    live.FIGURE.in_scopes(),
    growth.FIGURE,
    floors.FIGURE,
    floors.FIGURE.in_scopes(),
    api.FIGURE,
)
