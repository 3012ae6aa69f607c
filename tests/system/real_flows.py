"""Flows of the real prefect 1.4.1, for the tests of this folder; runs inside a booted Debian, never in pytest.

`python real_flows.py FLOW LABEL` registers one at the API of PREFECT__SERVER__ENDPOINT, creates a run, prints its id.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from prefect.run_configs import UniversalRun
from prefect.storage import Local

from prefect import Client, Flow, task

GO = Path("/run/flow-may-end")
DAEMON_SECONDS = "86399"


def _wait_for_go() -> None:
    while not GO.exists():
        time.sleep(0.05)


@task(log_stdout=True)
def wait() -> None:
    """Say hello, and end when the test says so."""
    print("hello from the flow run")
    _wait_for_go()
    print("goodbye from the flow run")


@task
def leave_daemon() -> None:
    """Start a daemon as daemons start themselves: forked twice, in a session of its own."""
    subprocess.run(["sh", "-c", f"setsid sh -c 'sleep {DAEMON_SECONDS} & exit' &"], check=True)
    _wait_for_go()


@task
def hold_the_gil() -> None:
    """Match a pattern that takes for ever, in C code that lets no other thread run."""
    import re

    Path("/run/holds-the-gil").touch()
    re.match(r"(a|a)*b", "a" * 64)


TASKS = {"wait": wait, "leave-daemon": leave_daemon, "hold-the-gil": hold_the_gil}


def main(name: str, label: str) -> None:
    """Given a flow's name and the label that it asks for, register it, create a run and print the run's id."""
    with Flow(name) as flow:
        TASKS[name]()
    flow.run_config = UniversalRun(labels=[label])
    flow.storage = Local(add_default_labels=False)
    client = Client()
    client.create_project("tests")
    flow_id = flow.register(project_name="tests", no_url=True)
    print(client.create_flow_run(flow_id=flow_id))


if __name__ == "__main__":
    main(*sys.argv[1:])
