"""The flows of the Local Agent's documentation. Runs with prefect 1.4.1's own interpreter inside a booted Debian.

`python documented_flows.py PROJECT` registers them where Prefect's own configuration says, and prints a JSON object:
flow's name -> flow's id. Whether Local storage brings the hostname label is left to Prefect's configuration, too.
"""

# mypy: disable-error-code="untyped-decorator"
# Prefect's decorators have no types.

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from prefect.run_configs import LocalRun, UniversalRun

from prefect import Client, Flow, task


@task(log_stdout=True)
def say_where() -> None:
    """Say in which environment this runs."""
    print(f"SOME_VAR is {os.environ.get('SOME_VAR')} in {Path.cwd()}", flush=True)


def flows() -> list[Flow]:
    """Return the flows: the one with an environment and a folder of its own, and those for two agents."""
    with Flow("configured", run_config=LocalRun(env={"SOME_VAR": "VALUE"}, working_dir="/srv/work")) as configured:
        say_where()
    with Flow("example1", run_config=UniversalRun(labels=["prod1"])) as example1:
        say_where()
    with Flow("example2", run_config=UniversalRun(labels=["prod2"])) as example2:
        say_where()
    with Flow("plain") as plain:
        say_where()
    return [configured, example1, example2, plain]


def main(project: str) -> None:
    """Register them and print their ids by name."""
    Client().create_project(project)
    print(json.dumps({flow.name: flow.register(project, no_url=True) for flow in flows()}))


main(sys.argv[1])
