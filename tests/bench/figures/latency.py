"""A flow run that becomes visible at the API to an idle agent, until its process runs.

It begins when the API has answered the request that created the flow run, and ends when the process, a stub, has
written its first line into a pipe.

With the defaults the agents' pauses between polls decide. Three of each idle side by side, until their pauses have
grown to their longest; then one after the other gets a flow run, each at a moment by chance.

Poked, the agent is told at once, as its own command or address does it: ours over its control socket, theirs over
HTTP. Starting `local-agent poke` itself is not in it; that is a row of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import subprocess
import sys
import time

from bench.bed import Bed
from bench.model import SCOPE, Figure, Reach, Row, ours_at_most, ratio_at_most
from bench.sides import Ours, Side
from bench.stub import Stub

_SETTLE_SECONDS = 26.0  # theirs: 0.25 + 0.5 + 1 + 2 + 4 + 8 + 10
_LONGEST_PAUSE_SECONDS = 10.0
_BETWEEN_POKES_SECONDS = 2.5
_POKES = 5
_PAIRS = range(3)


def _measure_defaults(bed: Bed) -> list[Row]:
    theirs: list[float] = []
    ours: list[float] = []
    with bed.stub() as stub, contextlib.ExitStack() as ends:
        pairs = [(ends.enter_context(bed.theirs(stub=stub)), ends.enter_context(bed.ours(stub=stub))) for _ in _PAIRS]
        for agent in itertools.chain.from_iterable(pairs):
            agent.wait_until_up()
        for number in range(1, bed.rounds + 1):
            time.sleep(_SETTLE_SECONDS)
            for their_agent, our_agent in pairs:
                time.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))  # or it would begin when another has just polled
                theirs.append(_seconds_to_process(bed, stub, their_agent, poked=False))
                ours.append(_seconds_to_process(bed, stub, our_agent, poked=False))
            bed.say(f"round {number} of {bed.rounds}: theirs {theirs[-1]:.2f}, ours {ours[-1]:.2f}")
    title = f"run visible to its process, defaults, {bed.launcher} launcher"
    return [Row(title, "s", theirs, ours, ratio_at_most(0.25))]


def _measure_poked(bed: Bed) -> list[Row]:
    theirs: list[float] = []
    ours: list[float] = []
    with bed.stub() as stub, bed.their_pokable(stub=stub) as their_agent, bed.ours(stub=stub) as our_agent:
        for agent in (their_agent, our_agent):
            agent.wait_until_up()
        for number in range(1, bed.rounds + 1):
            theirs += _milliseconds_poked(bed, stub, their_agent)
            ours += _milliseconds_poked(bed, stub, our_agent)
            bed.say(f"round {number} of {bed.rounds}: theirs {theirs[-1]:.1f} ms, ours {ours[-1]:.1f} ms")
        command = [_milliseconds_of_command(our_agent) for _ in range(bed.rounds)]
    return [
        Row(f"run visible to its process, poked, {bed.launcher} launcher", "ms", theirs, ours, _reach(bed.launcher)),
        Row(f"`local-agent poke` itself, {bed.launcher} launcher", "ms", [], command),
    ]


def _reach(launcher: str) -> Reach:
    return ours_at_most(25 if launcher == SCOPE else 20)


def _milliseconds_poked(bed: Bed, stub: Stub, agent: Side) -> list[float]:
    samples = []
    for _ in range(_POKES):
        time.sleep(_BETWEEN_POKES_SECONDS)
        samples.append(_seconds_to_process(bed, stub, agent, poked=True) * 1000)
    return samples


def _seconds_to_process(bed: Bed, stub: Stub, agent: Side, *, poked: bool) -> float:
    flow = agent.new_flow()
    created = bed.api.create_flow_run(flow)
    visible = time.monotonic()
    if poked:
        agent.poke()
    [(started, at)] = stub.starts(1)
    assert started == created
    return at - visible


def _milliseconds_of_command(agent: Ours) -> float:
    """From its exec to its end, with the agent's answer."""
    command = [sys.executable, "-m", "local_agent", "poke", "--state-dir", str(agent.state_dir)]
    began = time.monotonic()
    subprocess.run(command, env=agent.environment, check=True, stdout=subprocess.DEVNULL)
    return (time.monotonic() - began) * 1000


DEFAULTS = Figure("latency", _measure_defaults)
POKED = Figure("poke", _measure_poked)
