"""Two hundred live flow runs taken up again after the agent was killed with SIGKILL.

From the exec of the new agent until it has said of each flow run that it is adopted. Theirs knows nothing of the flow
runs that an earlier process of it started, so it has no figure.
"""

from __future__ import annotations

import time

from bench.bed import Bed
from bench.figures import burst
from bench.model import Figure, Row, ours_at_most

_ADOPTED = "is still running, adopted"


def _measure(bed: Bed) -> list[Row]:
    seconds = []
    for number in range(1, bed.rounds + 1):
        seconds.append(_seconds_to_adopt(bed))
        bed.say(f"round {number} of {bed.rounds}: {seconds[-1]:.2f}")
    title = f"{burst.RUNS} live runs adopted after kill -9, {bed.launcher} launcher"
    return [Row(title, "s", [], seconds, ours_at_most(2))]


def _seconds_to_adopt(bed: Bed) -> float:
    with bed.stub(held=True) as stub, bed.ours(stub=stub) as agent:
        burst.settle(agent)
        burst.release_burst(bed, agent, stub)
        agent.wait_for(agent.starts_with, burst.RUNS)
        agent.kill()
        agent.start()
        agent.wait_for(_ADOPTED, burst.RUNS)
        return time.monotonic() - agent.started_at


FIGURE = Figure("adoption", _measure)
