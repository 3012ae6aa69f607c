"""A flow that does what flows do to a machine: HTTP, processes, dask, netlink, subprocesses, files. Runs inside only.

`python wide_flow.py LABEL` registers it at the API of PREFECT__SERVER__ENDPOINT and prints its id.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import requests
from prefect.executors import LocalDaskExecutor
from prefect.run_configs import LocalRun
from prefect.storage import Local

from prefect import Client, Flow, task


@task
def ask_over_http() -> None:
    """Make a request to the API."""
    requests.post(os.environ["PREFECT__CLOUD__API"], json={"query": "{ hello }"}, timeout=60).raise_for_status()


@task
def spread_over_processes() -> None:
    """Use a pool of processes, with its semaphores in /dev/shm."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]


@task
def look_at_the_machine() -> None:
    """List network interfaces, by netlink, and processes."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
        netlink.bind((0, 0))
    assert socket.if_nameindex()
    assert Path("/proc/self/status").read_text()


@task
def run_programs() -> None:
    """Run a pipe of programs and read what it prints."""
    out = subprocess.run("echo one two | tr o 0 | sort", shell=True, check=True, stdout=subprocess.PIPE, text=True)
    assert out.stdout == "0ne tw0\n"


@task
def write_files() -> None:
    """Write where flows write: the temporary folder and the working folder."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "file").write_text("x")
    Path("written-by-the-flow").write_text("x")


def main(label: str) -> None:
    """Register it and print its id."""
    with Flow("wide") as flow:
        for one in (ask_over_http, spread_over_processes, look_at_the_machine, run_programs, write_files):
            one()
    flow.executor = LocalDaskExecutor(scheduler="threads", num_workers=2)
    flow.run_config = LocalRun(labels=[label])
    flow.storage = Local(add_default_labels=False)
    client = Client()
    client.create_project("wide")
    print(flow.register(project_name="wide", no_url=True))


if __name__ == "__main__":
    main(sys.argv[1])
