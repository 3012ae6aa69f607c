"""The demo's three flows. Run by the interpreter that has prefect 1.4.1, never imported by the demo itself.

`python flows.py LABEL` registers them at the API that PREFECT__SERVER__ENDPOINT names, creates a run of each, and
prints a line with them: registered: {"name of the flow": {"id": ..., "name": ...}}.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta

from prefect.run_configs import UniversalRun
from prefect.storage import Local

from prefect import Client, Flow, task

PROJECT = "demo"
LONG_SECONDS = 600


@task(log_stdout=True)
def read_sources() -> list[str]:
    """Return the files of the day."""
    print("looking for new files")
    return ["north.csv", "south.csv", "east.csv"]


@task(log_stdout=True)
def load(source: str) -> int:
    """Pretend to load one of them."""
    print(f"loading {source}")
    time.sleep(0.3)
    return len(source)


@task(log_stdout=True)
def add_up(sizes: list[int]) -> None:
    """Say how much it was."""
    print(f"loaded {sum(sizes)} rows")


@task(max_retries=1, retry_delay=timedelta(seconds=1), log_stdout=True)
def call_supplier() -> None:
    """Fail, twice."""
    print("calling the supplier")
    raise ConnectionError("the supplier does not answer")


@task(log_stdout=True)
def train() -> None:
    """Take long, so that somebody loses patience."""
    print(f"training for {LONG_SECONDS} s")
    time.sleep(LONG_SECONDS)


def _flows() -> list[Flow]:
    with Flow("load-files") as load_files:
        add_up(load.map(read_sources()))
    with Flow("ask-supplier") as ask_supplier:
        call_supplier()
    with Flow("train-model") as train_model:
        train()
    return [load_files, ask_supplier, train_model]


def _register(client: Client, flow: Flow, label: str) -> dict[str, str]:
    flow.run_config = UniversalRun(labels=[label])
    # the hostname label, which Local adds by default, would keep this flow from an agent without it
    flow.storage = Local(add_default_labels=False)
    flow_id = flow.register(project_name=PROJECT, no_url=True)
    run_id = client.create_flow_run(flow_id=flow_id, run_name=f"{flow.name}-1")
    return {"id": run_id, "name": f"{flow.name}-1"}


def main(label: str) -> None:
    """Given the label of the agent that shall run them, register the flows, create their runs and print those."""
    client = Client()
    client.create_project(PROJECT)
    runs = {flow.name: _register(client, flow, label) for flow in _flows()}
    print("registered:", json.dumps(runs))


if __name__ == "__main__":
    main(sys.argv[1])
