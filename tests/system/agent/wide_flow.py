"""A flow that does what flows do to a machine: HTTP, processes, dask, netlink, git, files. Runs inside only.

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

import distributed
import psutil
import requests
from distributed import LocalCluster
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
def spread_over_a_cluster() -> None:
    """Use a dask cluster of this machine: workers that are spawned, supervised, and asked over TCP."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert client.submit(sum, [1, 2, 3]).result(timeout=120) == 6
        (worker,) = client.run(os.getpid).values()
        assert worker != os.getpid()


@task
def look_at_the_machine() -> None:
    """List network interfaces, by netlink, and what there is of memory, disk and processes."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
        netlink.bind((0, 0))
    assert socket.if_nameindex()
    assert psutil.net_if_addrs()
    assert psutil.virtual_memory().total
    assert psutil.disk_usage("/").total
    assert os.getpid() in psutil.pids()
    assert psutil.Process(os.getppid()).cmdline()


@task
def run_programs() -> None:
    """Run a pipe of programs and read what it prints."""
    out = subprocess.run("echo one two | tr o 0 | sort", shell=True, check=True, stdout=subprocess.PIPE, text=True)
    assert out.stdout == "0ne tw0\n"


@task
def fetch_from_git() -> None:
    """Clone a repository, as Prefect's own storages and many flows do."""
    with tempfile.TemporaryDirectory() as folder:
        git = ["git", "-c", "user.name=flow", "-c", "user.email=flow@example.com"]
        subprocess.run([*git, "init", "--quiet", "--bare", f"{folder}/origin"], check=True)
        subprocess.run([*git, "clone", "--quiet", f"{folder}/origin", f"{folder}/first"], check=True)
        (Path(folder) / "first/file").write_text("x")
        subprocess.run([*git, "-C", f"{folder}/first", "add", "file"], check=True)
        subprocess.run([*git, "-C", f"{folder}/first", "commit", "--quiet", "--message=one"], check=True)
        subprocess.run([*git, "-C", f"{folder}/first", "push", "--quiet", "origin", "HEAD"], check=True)
        subprocess.run([*git, "clone", "--quiet", f"file://{folder}/origin", f"{folder}/second"], check=True)
        assert (Path(folder) / "second/file").read_text() == "x"


@task
def write_files() -> None:
    """Write where flows write: the temporary folder and the working folder."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "file").write_text("x")
    Path("written-by-the-flow").write_text("x")


def main(label: str) -> None:
    """Register it and print its id."""
    with Flow("wide") as flow:
        for one in (
            *(ask_over_http, spread_over_processes, spread_over_a_cluster, look_at_the_machine),
            *(run_programs, fetch_from_git, write_files),
        ):
            one()
    flow.executor = LocalDaskExecutor(scheduler="threads", num_workers=2)
    flow.run_config = LocalRun(labels=[label])
    flow.storage = Local(add_default_labels=False)
    client = Client()
    client.create_project("wide")
    print(flow.register(project_name="wide", no_url=True))


if __name__ == "__main__":
    main(sys.argv[1])
