"""Whether the agent's memory grows with the flow runs that it has seen: its PSS after 10,000 less its PSS after 100.

The flow runs come a hundred at a time, the next when the last end is reported and cleared away: more at once would need
more memory, whatever their number in all. What of it is in no file is told, too: how much the rest counts
depends on who else runs the same programs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench import processes
from bench.bed import Bed
from bench.model import Figure, Row, ours_at_most
from bench.sides import Ours
from bench.stub import Stub

_FIRST = 100
_ALL = 10_000
_AT_ONCE = 100
_SETTLE_SECONDS = 3.0


@dataclass(frozen=True)
class _Memory:
    pss_mb: float
    anonymous_mb: float


def _measure(bed: Bed) -> list[Row]:
    """Once, whatever the rounds: it is 10,000 samples in itself."""
    with bed.stub() as stub, bed.ours(stub=stub) as agent:
        agent.wait_until_up()
        _run(bed, agent, stub, _FIRST)
        before = _read(agent)
        _run(bed, agent, stub, _ALL - _FIRST)
        after = _read(agent)
    name = f"agent's PSS after {_ALL:,} runs less after {_FIRST}"
    return [
        Row(name, "MB", [], [after.pss_mb - before.pss_mb], ours_at_most(2)),
        Row(f"{name}: of which in no file", "MB", [], [after.anonymous_mb - before.anonymous_mb]),
        Row(f"agent's PSS after {_FIRST} runs", "MB", [], [before.pss_mb]),
    ]


def _run(bed: Bed, agent: Ours, stub: Stub, count: int) -> None:
    flow = agent.new_flow()
    done = 0
    while done < count:
        created = bed.api.create_flow_runs(flow, min(_AT_ONCE, count - done))
        agent.poke()
        stub.starts(len(created))
        agent.wait_until_idle()
        done += len(created)
        if done % 1000 == 0:
            bed.say(f"{done} of {count} runs, PSS {processes.pss_bytes([agent.pid]) / 1e6:.1f} MB")


def _read(agent: Ours) -> _Memory:
    time.sleep(_SETTLE_SECONDS)
    pids = [agent.pid]
    return _Memory(processes.pss_bytes(pids) / 1e6, processes.anonymous_bytes(pids) / 1e6)


FIGURE = Figure("growth", _measure)
