"""What a running agent tells about itself, between versions and from strangers."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from local_agent.report import AgentReport, ApiReport, RunReport

_RUN = RunReport("0e5a8f5c", "calm-otter", "etl", "flow-run-x.scope", datetime(2026, 1, 1, 12, tzinfo=UTC), "running")
_API = ApiReport("http://api", True, 90.0, "", 2.5, "its clock is wrong", -3.5)
_REPORT = AgentReport(
    instance="prod1",
    version="0.2.0",
    labels=("prod1", "etl"),
    api=_API,
    slots_limit=4,
    slots_taken=1,
    draining=False,
    takes_none_because="",
    unfit_because="no prefect",
    runs=(_RUN,),
    name="agent",
    launcher="scope",
    ends_with="mine.service",
    slots_free=3,
)
# as an agent of 0.1.0 answers
_FIRST: dict[str, Any] = {
    "format": 1,
    "version": "0.1.0",
    "instance": "prod1",
    "name": "agent",
    "labels": ["prod1"],
    "launcher": "scope",
    "api": {"url": "http://api", "reachable": False, "for_seconds": 9.0, "reason": "no", "answered_seconds_ago": None},
    "slots": {"limit": None, "taken": 1, "free": None},
    "draining": False,
    "takes_none_because": "",
    "unfit_because": "",
    "runs": [
        {
            "id": "0e5a8f5c",
            "name": "calm-otter",
            "flow": "etl",
            "unit": "flow-run-x.scope",
            "pid": 42,
            "since": "2026-01-01T12:00:00+00:00",
            "api_state": None,
        }
    ],
}

_THINGS: list[Any] = [
    *(None, True, -1, 2**70, 1e300, float("nan"), float("inf")),
    *("", "9999-12-31T23:59:59-14:00", "x", [], {}, [1]),
]


@pytest.mark.parametrize(
    "report",
    [
        _REPORT,
        replace(_REPORT, slots_limit=None, slots_free=None, runs=(), api=replace(_API, clock_ahead_seconds=None)),
        replace(_REPORT, runs=(replace(_RUN, since=None, api_state=""),)),
    ],
)
def test_what_is_told_is_what_is_read(report: AgentReport) -> None:
    assert AgentReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_an_agent_of_the_version_before_is_understood() -> None:
    report = AgentReport.from_json(_FIRST)
    assert (report.ends_with, report.api.problem, report.api.clock_ahead_seconds) == ("", "", None)
    assert report.runs == (replace(_RUN, where="", api_state=""),)


def test_the_tools_of_the_version_before_find_what_they_read() -> None:
    told = _REPORT.to_json()
    assert _FIRST.keys() <= told.keys()
    assert _FIRST["api"].keys() <= told["api"].keys()
    assert _FIRST["slots"].keys() <= told["slots"].keys()
    assert {"id", "name", "flow", "api_state"} <= told["runs"][0].keys()


def test_what_a_later_version_adds_is_passed_over() -> None:
    told = _REPORT.to_json()
    assert AgentReport.from_json({**told, "mood": {}, "api": {**told["api"], "weather": 1}}) == _REPORT


def test_a_time_without_a_zone_is_utc() -> None:
    assert RunReport.from_json({**_RUN.to_json(), "since": "2026-01-01T12:00:00"}) == _RUN


def test_whatever_a_stranger_answers_only_one_error_is_raised() -> None:
    chance = random.Random(5)
    for _ in range(5000):
        told = json.loads(json.dumps(_REPORT.to_json()))
        for _ in range(chance.randrange(1, 4)):
            place, key = chance.choice([*_places(told)])
            place[key] = copy.deepcopy(chance.choice(_THINGS))
        with contextlib.suppress(ValueError):
            _is_plain(AgentReport.from_json(told))
    for thing in _THINGS:
        with pytest.raises(ValueError, match=r"object|text|list"):
            AgentReport.from_json(thing)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - any JSON
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _is_plain(report: AgentReport) -> None:
    """It can be shown and written again, and its times can be counted with."""
    json.dumps(report.to_json(), allow_nan=False)
    for run in report.runs:
        if run.since is not None:
            assert run.since.tzinfo is not None
            run.since.timestamp()
