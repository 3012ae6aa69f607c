"""Two hundred flow runs that become visible at once to an idle agent, each with a child that does nothing.

They are created by one request, and both agents are poked when it is answered, each in its own way: how long they
would have slept is another figure.

The rate is from that answer to the last child's start, with children that end at once. Requests are counted by the API
under the agent's id, polls included: before ends, with children that are held until all of them run and the agent has
nothing left to say; with them, until the agent has also dealt with the end of each child, none of which has reported.
Zombies are counted 3 s after the last start.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench import processes
from bench.bed import Bed, NewSide
from bench.model import Figure, Row, ours_at_most, ratio_at_least
from bench.sides import Ours, Side
from bench.stub import Stub

RUNS = 200
_IDLE_SECONDS = 3.0
_ZOMBIES_AFTER_SECONDS = 3.0
_REACH = {"process": 3.0, "scope": 2.0}


@dataclass(frozen=True)
class Burst:
    """What came of one."""

    runs_per_second: float
    runs_per_second_among_themselves: float
    duplicates: int
    zombies: int
    requests_per_run: float
    cpu_ms_per_run: float
    api_cpu_ms_per_run: float


def _measure_rate(bed: Bed) -> list[Row]:
    samples = bed.in_turn(lambda new: burst(bed, new), theirs=bed.their_pokable)
    name = f"burst of {RUNS}, {bed.launcher} launcher"
    return [
        Row(
            f"{name}: visible to last start",
            "runs/s",
            *samples.of(lambda burst: burst.runs_per_second),
            ratio_at_least(_REACH[bed.launcher]),
        ),
        Row(
            f"{name}: first start to last", "runs/s", *samples.of(lambda burst: burst.runs_per_second_among_themselves)
        ),
        Row(
            f"{name}: agent's requests per run, ends dealt with",
            "",
            *samples.of(lambda burst: burst.requests_per_run),
            ours_at_most(0.35),
        ),
        Row(f"{name}: runs started twice", "", *samples.of(lambda burst: burst.duplicates), ours_at_most(0)),
        Row(f"{name}: zombies 3 s after it", "", *samples.of(lambda burst: burst.zombies), ours_at_most(0)),
        Row(f"{name}: agent's CPU per run", "ms", *samples.of(lambda burst: burst.cpu_ms_per_run)),
        Row(f"{name}: the API's CPU per run", "ms", *samples.of(lambda burst: burst.api_cpu_ms_per_run)),
    ]


def burst(bed: Bed, new: NewSide) -> Burst:
    """Start an agent and give it two hundred flow runs; return what came of it."""
    with bed.stub() as stub, new(stub=stub) as agent:
        settle(agent)
        requests = agent.requests()
        cpu, api_cpu = processes.cpu_seconds([agent.pid]), processes.cpu_seconds([bed.api.pid])
        visible, starts = release_burst(bed, agent, stub)
        times = [at for _, at in starts]
        time.sleep(_ZOMBIES_AFTER_SECONDS)
        zombies = processes.zombies(agent.pid)
        wait_until_done(agent)
        return Burst(
            runs_per_second=RUNS / (times[-1] - visible),
            runs_per_second_among_themselves=(RUNS - 1) / (times[-1] - times[0]),
            duplicates=RUNS - len({run for run, _ in starts}) + stub.waiting(),
            zombies=zombies,
            requests_per_run=(agent.requests() - requests) / RUNS,
            cpu_ms_per_run=(processes.cpu_seconds([agent.pid]) - cpu) * 1000 / RUNS,
            api_cpu_ms_per_run=(processes.cpu_seconds([bed.api.pid]) - api_cpu) * 1000 / RUNS,
        )


def _measure_requests(bed: Bed) -> list[Row]:
    samples = bed.in_turn(lambda new: requests_before_ends(bed, new), theirs=bed.their_pokable)
    title = f"burst of {RUNS}, {bed.launcher} launcher: agent's requests per run before ends"
    return [Row(title, "", *samples.sides, ours_at_most(0.2))]


def requests_before_ends(bed: Bed, new: NewSide) -> float:
    """Return the agent's requests for each of two hundred flow runs that run and have not ended."""
    with bed.stub(held=True) as stub, new(stub=stub) as agent:
        settle(agent)
        before = agent.requests()
        release_burst(bed, agent, stub)
        agent.wait_for(agent.starts_with, RUNS)
        wait_until_quiet(agent)
        return (agent.requests() - before) / RUNS


def settle(agent: Side) -> None:
    """Wait until the agent has started and polled for a while."""
    agent.wait_until_up()
    time.sleep(_IDLE_SECONDS)


def release_burst(bed: Bed, agent: Side, stub: Stub) -> tuple[float, list[tuple[str, float]]]:
    """Create the flow runs; return when they were visible, and each one's start."""
    flow = agent.new_flow()
    bed.api.create_flow_runs(flow, RUNS)
    visible = time.monotonic()
    agent.poke()
    return visible, stub.starts(RUNS)


def wait_until_done(agent: Side) -> None:
    """Wait until the agent has said of each flow run that it started, and ours of each that it ended."""
    agent.wait_for(agent.starts_with, RUNS)
    if isinstance(agent, Ours):
        agent.wait_until_idle()


def wait_until_quiet(agent: Side) -> None:
    """Wait until the requests that follow a launch (a log line, a look back at the claim) are over."""
    time.sleep(1.0)


RATE = Figure("burst", _measure_rate)
REQUESTS = Figure("burst-requests", _measure_requests)
