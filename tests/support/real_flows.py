"""Real Prefect 1.4.1 flows for the tests, and registering them. Also run, as a script, by the interpreter with prefect.

`python real_flows.py LABEL` registers all of them at the API that PREFECT__SERVER__ENDPOINT names and prints a JSON
object: flow's name -> flow's id. The tests themselves never import prefect.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

PROJECT = "real"
# What a test's prefect may know: nothing of the user's own
CHECK_SECONDS = 2


def environment(api_url: str, home: str) -> dict[str, str]:
    """Given the API's URL and a folder, return the variables with which prefect knows nothing but these."""
    return {
        "HOME": home,
        "PREFECT__HOME_DIR": f"{home}/.prefect",
        "PREFECT__BACKEND": "server",
        "PREFECT__SERVER__ENDPOINT": api_url,
        "PREFECT__CLOUD__CHECK_CANCELLATION_INTERVAL": str(CHECK_SECONDS),
    }


def registered(printed: str) -> Mapping[str, str]:
    """Given what the script printed, return the flows' ids by name."""
    flows: dict[str, str] = json.loads(printed.strip().splitlines()[-1])
    return flows


def _register_all(label: str) -> dict[str, str]:  # noqa: C901 - one flow after another
    import ctypes
    import subprocess
    import time
    from datetime import timedelta

    from prefect.run_configs import LocalRun
    from prefect.storage import Local
    from prefect.tasks.prefect import StartFlowRun, create_flow_run, wait_for_flow_run

    import prefect
    from prefect import Client, Flow, Parameter, task, unmapped

    @task(log_stdout=True)
    def hello() -> None:
        print("hello from the flow", flush=True)
        os.write(1, b"written by the flow itself\n")

    @task
    def nap(seconds: float) -> None:
        time.sleep(seconds)

    @task
    def leave_a_daemon() -> None:
        # a double fork into a session of its own: nobody but the cgroup knows it any more
        subprocess.run(["sh", "-c", "setsid sleep 7777 </dev/null >/dev/null 2>&1 &"], check=True)

    @task
    def hold_the_gil(seconds: int) -> None:
        ctypes.PyDLL(None).sleep(int(seconds))

    @task
    def ignore_everything() -> None:
        import signal

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        subprocess.Popen(["sh", "-c", "trap '' INT TERM; setsid sleep 8888 & sleep 8888"])
        while True:
            time.sleep(0.2)

    @task(max_retries=1, retry_delay=timedelta(minutes=20))
    def fail_once() -> None:
        if prefect.context.task_run_count == 1:
            raise RuntimeError("not now")

    @task(trigger=prefect.triggers.manual_only)
    def go_on() -> None:
        pass

    with Flow("hello") as hello_flow:
        hello()
    with Flow("nap") as nap_flow:
        nap(Parameter("seconds", default=30))
    with Flow("daemon") as daemon_flow:
        nap(Parameter("seconds", default=30), upstream_tasks=[leave_a_daemon()])
    with Flow("gil") as gil_flow:
        hold_the_gil(Parameter("seconds", default=90))
    with Flow("stubborn") as stubborn_flow:
        ignore_everything()
    with Flow("long-retry") as long_retry_flow:
        fail_once()
    with Flow("approval") as approval_flow:
        go_on(upstream_tasks=[hello()])

    with Flow("parent") as parent_flow:
        names = ["hello", "hello"]
        children = create_flow_run.map(flow_name=names, project_name=unmapped(PROJECT))
        wait_for_flow_run.map(children, raise_final_state=unmapped(True))
    with Flow("grandparent") as grandparent_flow:
        StartFlowRun(flow_name="parent", project_name=PROJECT, wait=True, poll_interval=timedelta(seconds=3))()

    client = Client()
    client.create_project(PROJECT)
    ids = {}
    plain = (hello_flow, nap_flow, daemon_flow, gil_flow, stubborn_flow, long_retry_flow, approval_flow)
    for flow in (*plain, parent_flow, grandparent_flow):
        flow.run_config = LocalRun(labels=[label])
        flow.storage = Local(add_default_labels=False)
        ids[flow.name] = str(flow.register(project_name=PROJECT, no_url=True))
    return ids


if __name__ == "__main__":
    # the register calls print, too: the last line is the answer
    print(json.dumps(_register_all(sys.argv[1])))
