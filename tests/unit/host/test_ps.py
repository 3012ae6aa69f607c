"""What `ps` prints."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from local_agent.host.output.ps import as_json, table
from local_agent.host.reading.runs import Overview, Run
from local_agent.host.table import Terminal, width_of
from local_agent.linux.cgroup import Figures
from unit.host.fakes import run_id

_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_RUNNING = Run(
    run_id(0x3F9A21C0),
    "brave-otter",
    "nightly load",
    "prod1",
    "running",
    api_state="running",
    manager="system",
    unit="flow-run-x.scope",
    since=_NOW - timedelta(minutes=3, seconds=5),
    figures=Figures(12.34, 362_390_937, 400 << 20, 8 << 30, 14, 5, 6),
)
_KILLED = Run(run_id(1), "old", "etl", "prod1", "failed", result="oom-kill")
_ENDED = Run(run_id(2), "older", "etl", "prod1", "ended", since=_NOW, how="Exited with code 0")


_SEEN = """\
ID        FLOW          NAME         STATE              API      INSTANCE  SINCE    CPU  MEMORY    PEAK  LIMIT  TASKS
3f9a21c0  nightly load  brave-otter  running            running  prod1     3m05s  12.3s  345.6M  400.0M   8.0G     14
00000001  etl           old          failed (oom-kill)  -        prod1         -      -       -       -      -      -
"""


def test_what_a_person_sees() -> None:
    assert table([_RUNNING, _KILLED], _NOW, Terminal(), with_ended=False) == _SEEN.splitlines()


def test_how_runs_ended_is_the_last_column() -> None:
    lines = table([_ENDED], _NOW, Terminal(), with_ended=True)
    assert lines[0].endswith("HOW IT ENDED")
    assert lines[1].endswith("Exited with code 0")


def test_it_fits() -> None:
    for width in (60, 80, 100, 132, 200):
        lines = table([_RUNNING, _ENDED], _NOW, Terminal(width), with_ended=False)
        assert max(map(width_of, lines)) <= width
        assert {"ID", "FLOW", "NAME", "STATE", "SINCE", "CPU", "MEMORY"} <= set(lines[0].split())


def test_what_a_script_gets() -> None:
    printed = json.loads(json.dumps(as_json(Overview((_RUNNING, _ENDED), ("a problem",)), _NOW)))
    assert printed["format"] == 1
    assert printed["problems"] == ["a problem"]
    running, ended = printed["runs"]
    assert running == {
        "id": run_id(0x3F9A21C0),
        "name": "brave-otter",
        "flow": "nightly load",
        "instance": "prod1",
        "state": "running",
        "api_state": "running",
        "manager": "system",
        "unit": "flow-run-x.scope",
        "result": None,
        "since": "2026-01-01T11:56:55.000+00:00",
        "cpu_seconds": 12.34,
        "memory_bytes": 362_390_937,
        "memory_peak_bytes": 400 << 20,
        "memory_limit_bytes": 8 << 30,
        "tasks": 14,
        "read_bytes": 5,
        "written_bytes": 6,
        "how": None,
        "cause": None,
        "exit_code": None,
        "outcome": None,
    }
    assert (ended["how"], ended["cpu_seconds"], ended["api_state"]) == ("Exited with code 0", None, None)
