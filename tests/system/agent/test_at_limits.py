"""Many flow runs at once in scopes: each once, its end told soon, and nothing of ours fails."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime

import pytest

from support.api import Api
from support.api_client import wait_until
from support.long_form import is_long_form
from support.machine import Machine
from system.agent.conftest import Instance

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

_COUNT, _LIVE = (2000, 1200) if is_long_form() else (60, 60)
_SECONDS = 1500.0 if is_long_form() else 120.0
_MAX_MEDIAN_SECONDS = 10.0  # a net: this machine may be busy. The figure itself is printed
_FOLDER = "/srv/limits"
_ENDS = f'echo "$PREFECT__CONTEXT__FLOW_RUN_ID" >>{_FOLDER}/starts; : >{_FOLDER}/$PREFECT__CONTEXT__FLOW_RUN_ID; exit 3'
_WAITS = (
    f'echo "$PREFECT__CONTEXT__FLOW_RUN_ID" >>{_FOLDER}/starts; read line <{_FOLDER}/gate; ' + _ENDS.partition("; ")[2]
)


def test_many_due_at_once_in_scopes(instance: Instance, machine: Machine, api: Api) -> None:
    _prepare(instance, machine, _ENDS)
    runs = api.create_flow_runs(api.create_flow("due", labels=["prod1"]), _COUNT)
    instance.start()
    _check(instance, machine, api, runs)


def test_many_live_at_once_in_scopes(instance: Instance, machine: Machine, api: Api) -> None:
    """With fewer descriptors by default than flow runs; they end at the same moment."""
    _prepare(instance, machine, _WAITS)
    instance.drop_in(f"[Service]\nLimitNOFILE={1024 if is_long_form() else 64}:16384\n")
    runs = api.create_flow_runs(api.create_flow("live", labels=["prod1"]), _LIVE)
    instance.start()
    wait_until(lambda: len(_starts(machine)) == _LIVE, lambda: _last_words(instance), seconds=_SECONDS)
    wait_until(lambda: _count_live(machine) == _LIVE, lambda: _last_words(instance))
    machine.run(f": >{_FOLDER}/gate")
    _check(instance, machine, api, runs)


def _prepare(instance: Instance, machine: Machine, script: str) -> None:
    machine.run(f"rm -rf {_FOLDER} && mkdir -m 777 {_FOLDER} && mkfifo -m 666 {_FOLDER}/gate")
    machine.write("/srv/player", f'#!/bin/sh\n[ "$1" != -c ] || {{ echo 1.4.1; exit; }}\n{script}\n')
    machine.run(["chmod", "755", "/srv/player"])
    instance.configure(python="/srv/player")


def _check(instance: Instance, machine: Machine, api: Api, runs: Sequence[str]) -> None:
    wait_until(lambda: len(_unfinished(api, runs)) == 0, lambda: _last_words(instance), seconds=_SECONDS)
    assert sorted(_starts(machine)) == sorted(runs), "each exactly once"
    assert "Traceback" not in instance.journal("-o", "cat")
    late = sorted(_lateness(machine, api, runs))
    print(f"{len(runs)} ends told after {statistics.median(late):.2f} s at the median, {late[-1]:.2f} s at most")
    assert statistics.median(late) < _MAX_MEDIAN_SECONDS
    records = f"ls /var/lib/local-agent/{instance.name}/runs"
    wait_until(lambda: not machine.run(records).stdout, machine.run(records).stdout.strip)


def _starts(machine: Machine) -> list[str]:
    return machine.run(f"cat {_FOLDER}/starts", check=False).stdout.split()


def _count_live(machine: Machine) -> int:
    return int(machine.run("systemctl list-units --plain --no-legend 'flow-run-*.scope' | wc -l").stdout)


def _unfinished(api: Api, runs: Sequence[str]) -> list[str]:
    return [run for run, row in _rows(api, runs).items() if row["state"] != "Failed"]


def _rows(api: Api, runs: Sequence[str]) -> dict[str, dict[str, str]]:
    query = "query($ids: [uuid!]) { flow_run(where: {id: {_in: $ids}}) { id state state_timestamp } }"
    return {row["id"]: row for row in api.graphql(query, {"ids": list(runs)})["flow_run"]}


def _lateness(machine: Machine, api: Api, runs: Sequence[str]) -> list[float]:
    printed = machine.run(f"find {_FOLDER} -type f -printf '%f %T@\\n'").stdout
    ended = {name: float(at) for name, at in (line.split() for line in printed.splitlines())}
    told = {run: datetime.fromisoformat(row["state_timestamp"]).timestamp() for run, row in _rows(api, runs).items()}
    return [told[run] - ended[run] for run in runs]


def _last_words(instance: Instance) -> str:
    return instance.journal("-o", "cat")[-3000:]
