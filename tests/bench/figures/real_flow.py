"""The memory of one real flow run at work: the PSS of everything that its agent has started for it.

A flow of one task that sleeps is registered by prefect itself. Theirs: Prefect's flow-run process and its heartbeat
process. Ours: the shim too. It is read 3 s after the task runs, when both have sent their heartbeats.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from bench import processes
from bench.bed import Bed, NewSide
from bench.model import Figure, Row, ratio_at_most
from bench.sides import Side
from support import real_flows

_AT_WORK_SECONDS = 3.0


def _measure(bed: Bed) -> list[Row]:
    samples = bed.in_turn(lambda new: _pss_mb(bed, new))
    title = f"memory of one running real flow run (PSS), {bed.launcher} launcher"
    return [Row(title, "MB", *samples.sides, ratio_at_most(0.6))]


def _pss_mb(bed: Bed, new: NewSide) -> float:
    with new() as agent:
        agent.wait_until_up()
        run = bed.api.create_flow_run(_register(bed, agent)["nap"], parameters={"seconds": 600})
        agent.wait_until(lambda: _is_at_work(bed, run), "running task")
        time.sleep(_AT_WORK_SECONDS)
        return processes.pss_bytes(pid for pid in agent.tree() if pid != agent.pid) / 1e6


def _is_at_work(bed: Bed, run: str) -> bool:
    return any(task["state"] == "Running" for task in bed.api.task_runs(run))


def _register(bed: Bed, agent: Side) -> dict[str, str]:
    """Register real flows that only this agent gets; return their ids by name."""
    environment = {"PATH": "/usr/bin:/bin", **real_flows.environment(bed.api.url, str(agent.folder))}
    command: list[str | Path] = [bed.prefect_python, Path(real_flows.__file__), agent.label]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return dict(real_flows.registered(done.stdout))


FIGURE = Figure("real-flow", _measure)
