"""Registers the flows of these tests. Runs with prefect 1.4.1's own interpreter, not within the tests."""

# mypy: disable-error-code="untyped-decorator"
# Prefect's decorators have no types.

from __future__ import annotations

import json
import time
from datetime import timedelta

from prefect.run_configs import LocalRun, UniversalRun
from prefect.schedules import IntervalSchedule
from prefect.storage import Local

from prefect import Client, Flow, Parameter, task

PROJECT = "real"


@task
def numbers(n: int) -> list[int]:
    return list(range(n))


@task
def square(x: int) -> int:
    return x * x


@task
def total(xs: list[int]) -> int:
    return sum(xs)


@task(max_retries=1, retry_delay=timedelta(seconds=1))
def bad() -> None:
    message = "always bad"
    raise RuntimeError(message)


@task
def endless() -> None:
    while True:
        time.sleep(0.1)


def storage() -> Local:
    """Return storage that adds no label of this machine."""
    return Local(add_default_labels=False)


def flows() -> list[Flow]:
    """Return the flows."""
    with Flow("mapped", run_config=LocalRun(labels=["real"], env={"FROM_RUN_CONFIG": "1"})) as mapped:
        total(square.map(numbers(Parameter("n", default=3))))
    with Flow("failing", run_config=UniversalRun(labels=["real"])) as failing:
        bad()
    with Flow("endless", run_config=LocalRun(labels=["real"])) as forever:
        endless()
    with Flow("many", run_config=UniversalRun(labels=["nobody"])) as many:
        total([numbers(number) for number in range(600)])
    with Flow("scheduled", schedule=IntervalSchedule(interval=timedelta(hours=1))) as scheduled:
        bad()
    return [mapped, failing, forever, many, scheduled]


def main() -> None:
    """Register them all and print their ids by name."""
    Client().create_project(PROJECT)
    ids = {}
    for flow in flows():
        flow.storage = storage()
        ids[flow.name] = flow.register(PROJECT)
    print(json.dumps(ids))


main()
