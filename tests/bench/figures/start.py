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
    with FaultyProxy(bed.api.url) as proxy:

        def seconds_of(new: NewSide) -> float:
            return _seconds_to_first_poll(proxy, new)

        samples = bed.in_turn(seconds_of)
    return [Row("exec to first poll", "s", *samples.sides, ratio_at_most(0.65))]


def _seconds_to_first_poll(proxy: FaultyProxy, new: NewSide) -> float:
    seen: list[float] = []

    def note(exchange: Exchange) -> tuple[int, str, bytes]:
        seen.append(time.monotonic())
        status, body = exchange.forward()
        return status, "application/json", body

    rule = proxy.add(note, _POLL)
    agent = new(api_url=proxy.url)
    try:
        began = agent.start()
        rule.wait_for_hits()
        agent.wait_until(lambda: seen, "first poll")
    finally:
        agent.finish()
        proxy.clear()
    return seen[0] - began


FIGURE = Figure("start", _measure)
