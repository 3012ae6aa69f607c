"""Flows for the tests of Prefect 3 and 2.20: deployments name them as their entrypoints, engines import them.

What a flow or its hook did is written to the file that FLOW_NOTES names, a line each: what the API says is not enough
to tell that a hook ran once. The arguments of hooks are named as 2.20 names them.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import prefect

NOTES = "FLOW_NOTES"


def note(text: str) -> None:
    """Write down what happened, and where."""
    with Path(os.environ[NOTES]).open("a") as notes:
        notes.write(f"{text} pid={os.getpid()} cwd={Path.cwd()}\n")


def on_cancellation(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ANN401 - prefect's own
    """Note that this hook ran."""
    note(f"cancellation-hook {state.name}")


def on_crashed(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ANN401 - prefect's own
    """Note that this hook ran."""
    note(f"crashed-hook {state.name}")


_HOOKS: dict[str, Any] = {"on_cancellation": [on_cancellation], "on_crashed": [on_crashed]}


@prefect.task
def double(number: int) -> int:
    """Return twice a number."""
    return 2 * number


@prefect.flow(log_prints=True)
def doubled(numbers: list[int]) -> int:
    """Map a task over numbers."""
    total: int = sum(future.result() for future in double.map(numbers))
    print(f"the sum is {total}")
    note(f"sum {total} TOKEN={os.environ.get('TOKEN', '')}")
    return total


@prefect.flow(retries=1, retry_delay_seconds=1)
def stumble() -> None:
    """Fail, be tried again, fail."""
    note("stumbled")
    raise RuntimeError("not today")


@prefect.flow(**_HOOKS)
def nap(seconds: float = 300) -> None:
    """Sleep in C, as a flow that waits for a program does."""
    note("napping")
    time.sleep(seconds)


@prefect.flow(**_HOOKS)
async def async_nap(seconds: float = 300) -> None:
    """Sleep in the event loop."""
    note("napping")
    await asyncio.sleep(seconds)


@prefect.flow(**_HOOKS)
def family(seconds: float = 300) -> None:
    """Have children and a grandchild, which outlive the flow's own process if nobody ends them."""
    for program in (["sleep", "7001"], ["sh", "-c", "trap '' TERM; sleep 7002 & sleep 7003"]):
        subprocess.Popen(program)
    note(f"family {os.getpgrp()}")
    time.sleep(seconds)


@prefect.flow(name="größe")
def size() -> None:
    """Have a name that is not ASCII."""
    note("sized")
