"""What looking after live flow runs costs the agent, with 10, 100 and 1,000 of them: CPU time and requests a minute.

Each is Running at the API and sends a heartbeat every 30 s, as Prefect's own processes do; the processes themselves do
nothing. Theirs looks after none of its flow runs, so it has no figure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench import processes
from bench.bed import Bed
from bench.model import Figure, Row
from bench.sides import Ours
from bench.stub import Stub

_COUNTS = (10, 100, 1000)
_CREATED_AT_ONCE = 100
_SETTLE_SECONDS = 5.0
_HEARTBEAT_SECONDS = 30.0
_HEARTBEATS = 2


def _measure(bed: Bed) -> list[Row]:
    rows = []
    with bed.stub(held=True) as stub, bed.ours(stub=stub) as agent:
        agent.wait_until_up()
        runs: list[str] = []
        for count in _COUNTS:
            runs += _start(bed, agent, stub, count - len(runs))
            cpu_ms, requests = _cost_of_a_minute(bed, agent, runs)
            bed.say(f"{count} live runs: {cpu_ms:.0f} ms of CPU and {requests:.0f} requests a minute")
            name = f"{count:,} live runs, {bed.launcher} launcher"
            rows.append(Row(f"{name}: agent's CPU per minute", "ms", [], [cpu_ms]))
            rows.append(Row(f"{name}: requests per minute", "", [], [requests]))
    return rows


def _start(bed: Bed, agent: Ours, stub: Stub, count: int) -> list[str]:
    flow = agent.new_flow()
    runs: list[str] = []
    while len(runs) < count:
        created = bed.api.create_flow_runs(flow, min(_CREATED_AT_ONCE, count - len(runs)))
        agent.poke()
        stub.starts(len(created))
        runs += created
    for run in runs:
        bed.api.set_state(run, "Running")
    return runs


def _cost_of_a_minute(bed: Bed, agent: Ours, runs: Sequence[str]) -> tuple[float, float]:
    """Return the agent's CPU time in milliseconds, and its requests, by the minute."""
    _send_heartbeats(bed, runs)
    time.sleep(_SETTLE_SECONDS)
    requests, cpu, began = agent.requests(), processes.cpu_seconds([agent.pid]), time.monotonic()
    for _ in range(_HEARTBEATS):
        _send_heartbeats(bed, runs)
        time.sleep(_HEARTBEAT_SECONDS)
    used, sent = processes.cpu_seconds([agent.pid]) - cpu, agent.requests() - requests
    minutes = (time.monotonic() - began) / 60
    return used * 1000 / minutes, sent / minutes


def _send_heartbeats(bed: Bed, runs: Sequence[str]) -> None:
    for first in range(0, len(runs), _CREATED_AT_ONCE):
        fields = " ".join(
            f'a{number}: update_flow_run_heartbeat(input: {{flow_run_id: "{run}"}}) {{ success }}'
            for number, run in enumerate(runs[first : first + _CREATED_AT_ONCE])
        )
        bed.api.graphql(f"mutation {{ {fields} }}")


FIGURE = Figure("live", _measure)
