"""Exec to first poll: from just before the agent's process is started until its first request for flow runs comes.

A proxy in front of the API sees the request; it costs both sides the same.
"""

from __future__ import annotations

import time

from bench.bed import Bed, NewSide
from bench.model import Figure, Row, ratio_at_most
from support.faults import Exchange, FaultyProxy

_POLL = "get_runs_in_queue"


def _measure(bed: Bed) -> list[Row]:
    samples = bed.in_turn(lambda new: measure_once(bed, new))
    return [Row("exec to first poll", "s", *samples.sides, ratio_at_most(0.65))]


def measure_once(bed: Bed, new: NewSide) -> float:
    """Start an agent; return how many seconds it took to its first poll."""
    seen: list[float] = []

    def note(exchange: Exchange) -> tuple[int, str, bytes]:
        seen.append(time.monotonic())
        status, body = exchange.forward()
        return status, "application/json", body

    with FaultyProxy(bed.api.url) as proxy:
        proxy.add(note, _POLL)
        with new(api_url=proxy.url) as agent:
            agent.wait_until(lambda: seen, "first poll")
            return seen[0] - agent.started_at


FIGURE = Figure("start", _measure)
