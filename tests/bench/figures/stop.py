"""From the signal to the agent's exit, while the API answers each request with 500.

Ours gets SIGTERM, as systemd sends it. Theirs gets SIGINT: SIGTERM would end it at once, in the middle of whatever it
does. Both have just had an answer of 500.
"""

from __future__ import annotations

import time

from bench.bed import Bed, NewSide
from bench.model import Figure, Row, ours_at_most
from support.faults import FaultyProxy

_IN_TROUBLE_SECONDS = 1.0


def _measure(bed: Bed) -> list[Row]:
    samples = bed.in_turn(lambda new: _seconds_to_exit(bed, new))
    return [Row("SIGTERM (theirs: SIGINT) to exit, API answering 500", "s", *samples.sides, ours_at_most(0.5))]


def _seconds_to_exit(bed: Bed, new: NewSide) -> float:
    with FaultyProxy(bed.api.url) as proxy, new(api_url=proxy.url) as agent:
        agent.wait_until_up()
        rule = proxy.answer(500)
        rule.wait_for_hits()
        time.sleep(_IN_TROUBLE_SECONDS)
        return agent.end()


FIGURE = Figure("stop", _measure)
