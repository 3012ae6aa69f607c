"""An idle agent: its memory, its CPU time and its TCP connections in a minute.

It is left alone until its pauses between polls have grown to their longest. Memory is the PSS of the agent and all that
it has started, read at the end. CPU time is what these processes use in a window; connections are those that a proxy in
front of the API counts in it. Both are given for a minute.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from bench import processes
from bench.bed import Bed, NewSide
from bench.model import Figure, Row, ours_at_most, ratio_at_most
from support.faults import FaultyProxy

_SETTLE_SECONDS = 20.0  # theirs: 0.25 + 0.5 + 1 + 2 + 4 + 8
_WINDOW_SECONDS = float(os.environ.get("IDLE_SECONDS", "60"))


@dataclass(frozen=True)
class _Idle:
    pss_mb: float
    cpu_ms: float
    connections: float
    requests: float


def _measure(bed: Bed) -> list[Row]:
    samples = bed.in_turn(lambda new: _idle(bed, new))
    return [
        Row("idle memory (PSS)", "MB", *samples.of(lambda idle: idle.pss_mb), ratio_at_most(0.6)),
        Row("idle CPU per minute", "ms", *samples.of(lambda idle: idle.cpu_ms), ratio_at_most(1.0)),
        Row("TCP connections per idle minute", "", *samples.of(lambda idle: idle.connections), ours_at_most(1)),
        Row("requests per idle minute", "", *samples.of(lambda idle: idle.requests)),
    ]


def _idle(bed: Bed, new: NewSide) -> _Idle:
    with FaultyProxy(bed.api.url) as proxy, new(api_url=proxy.url) as agent:
        agent.wait_until_up()
        time.sleep(_SETTLE_SECONDS)
        pids = agent.tree()
        proxy.reset_counters()
        before = processes.cpu_seconds(pids)
        time.sleep(_WINDOW_SECONDS)
        a_minute = 60 / _WINDOW_SECONDS
        return _Idle(
            pss_mb=processes.pss_bytes(pids) / 1e6,
            cpu_ms=(processes.cpu_seconds(pids) - before) * 1000 * a_minute,
            connections=proxy.connections * a_minute,
            requests=proxy.requests * a_minute,
        )


FIGURE = Figure("idle", _measure)
