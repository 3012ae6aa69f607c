"""Whether all is well with the instances of a host."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local_agent.host.output.status import Pressure, as_json, in_words, is_well, table
from local_agent.host.reading.agents import StateFolder
from local_agent.host.reading.instances import Instance, Service, enabled_names, find_instances, read_services
from local_agent.host.table import Terminal, width_of
from local_agent.report import AgentReport
from unit.host.fakes import USEC, FakeReader

_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_PRESSURE = Pressure(1.25, None, 0.0, 2 << 30)


def _reader(active: str = "active", **properties: object) -> FakeReader:
    usual: dict[str, object] = {"StatusText": "1 running; API answered 2s ago", "NRestarts": 2, "Result": "success"}
    reader = FakeReader()
    began = int(_NOW.timestamp() - 60) * USEC
    reader.add("local-agent@prod1.service", "", active, ActiveEnterTimestamp=began, **{**usual, **properties})
    return reader


def _service(active: str = "active", **properties: object) -> Service:
    return read_services(_reader(active, **properties), "system")["prod1"]


def _answer(**changes: object) -> dict[str, Any]:
    api = {"url": "http://api", "reachable": True, "for_seconds": 90.0, "reason": "", "answered_seconds_ago": 2.5}
    return {
        "instance": "prod1",
        "version": "0.1.0",
        "labels": ["prod1", "etl"],
        "api": api,
        "slots": {"limit": 4, "taken": 1, "free": 3},
        "draining": False,
        "takes_none_because": "",
        "unfit_because": "",
        "runs": [{"id": "x", "name": "n", "flow": "f", "api_state": None}],
        **changes,
    }


def _agent(**changes: object) -> AgentReport:
    return AgentReport.from_json(_answer(**changes))


def _lost(**changes: object) -> dict[str, Any]:
    return {**_answer()["api"], "reachable": False, "reason": "it does not answer", **changes}


def test_a_service_in_systemds_words() -> None:
    service = _service()
    assert (service.unit, service.active_state, service.restarts) == ("local-agent@prod1.service", "active", 2)
    assert (service.is_enabled, _service(UnitFileState="enabled").is_enabled) == (False, True)


@pytest.mark.parametrize(
    ("active", "properties", "problem"),
    [
        ("active", {}, ""),
        ("inactive", {}, ""),
        ("inactive", {"UnitFileState": "enabled"}, "local-agent@prod1.service is enabled and does not run"),
        (
            "failed",
            {"Result": "exit-code", "ExecMainStatus": 78},
            "local-agent@prod1.service failed: exit code 78, a setting is wrong",
        ),
        ("failed", {"Result": "watchdog"}, "local-agent@prod1.service failed: watchdog"),
        (
            "active",
            {"StatusText": "0 running; said in any words", "StatusErrno": 107},
            "its agent does not reach the API: 0 running; said in any words",
        ),
        ("active", {"StatusText": "API unreachable for 4min: words are for people"}, ""),
        (
            "failed",
            {"StatusText": "stale", "StatusErrno": 107, "Result": "watchdog"},
            "local-agent@prod1.service failed: watchdog",
        ),
    ],
)
def test_what_anybody_can_see(active: str, properties: dict[str, object], problem: str) -> None:
    assert Instance("prod1", _service(active, **properties), None, may_ask=False).problem == problem


def test_what_the_agent_says_itself() -> None:
    def problem(**changes: object) -> str:
        return Instance("prod1", _service(), _agent(**changes), may_ask=True).problem

    assert problem() == ""
    assert problem(api=_lost(for_seconds=240.0)) == "API unreachable for 4min: it does not answer"
    assert problem(unfit_because="no prefect") == "no prefect"
    answers = {"url": "http://api", "reachable": True, "for_seconds": 9.0, "reason": "", "answered_seconds_ago": 1.0}
    wrong = "this machine's clock is 2d ahead of the API's"
    assert problem(api={**answers, "problem": wrong}) == wrong
    assert problem(api={**answers, "problem": ""}) == problem(api=answers) == ""
    assert problem(draining=True, takes_none_because="draining") == "", "somebody wants it so"
    assert (
        Instance("prod1", _service(), None, may_ask=True).problem == "its agent does not answer on its control socket"
    )


def test_instances_are_those_of_services_and_of_agents_that_answer(tmp_path: Path) -> None:
    (tmp_path / "prod1").mkdir()
    (tmp_path / "gone").mkdir()
    folders = [StateFolder(name, tmp_path / name, 990) for name in ("prod1", "gone")]
    found, problems = find_instances({"system": _reader}, folders, {"prod1": 3})
    assert [(one.name, one.runs, one.agent) for one in found] == [("prod1", 3, None)]
    assert problems == []


def test_an_instance_that_was_stopped_is_still_there() -> None:
    """systemd lists no unit that it has no need for: who stopped prod2 would not see it any more."""
    reader = _reader()
    reader.properties["/unit/local-agent@prod2.service", "UnitFileState"] = "enabled"
    known = {"system": ["prod1", "prod2", "old", "no+instance"]}
    found, _ = find_instances({"system": lambda: reader}, [], {}, known)
    problems = {instance.name: instance.problem for instance in found}
    stopped = "local-agent@prod2.service is enabled and does not run"
    assert problems == {"old": "", "prod1": "", "prod2": stopped}
    assert [instance.name for instance in found if instance.is_wanted] == ["prod1", "prod2"]


def test_a_stopped_instance_with_flow_runs_is_not_well() -> None:
    instance = Instance("prod1", _service("inactive"), None, may_ask=True, runs=2)
    assert instance.problem.startswith("local-agent@prod1.service does not run, and 2 flow runs of it are still here")
    assert instance.is_wanted
    assert not Instance("prod1", _service("inactive"), None, may_ask=True).is_wanted


def test_what_could_not_be_looked_at_is_not_called_well() -> None:
    instances = [Instance("prod1", _service(), None, may_ask=False)]
    assert is_well(instances, [])
    assert not is_well(instances, ["cannot reach systemd"])


def test_what_systemctl_has_enabled(tmp_path: Path) -> None:
    wants = tmp_path / "local-agent.target.wants"
    wants.mkdir()
    for name in ("local-agent@prod1.service", "local-agent@a.b.service", "local-agent-broker.socket", "ssh.service"):
        (wants / name).symlink_to("/nowhere")
    assert enabled_names(tmp_path) == {"prod1", "a.b"}
    assert enabled_names(tmp_path / "gone") == set()


def test_what_a_person_sees() -> None:
    instances = [
        Instance("prod1", _service(), _agent(), may_ask=True, runs=1),
        Instance("prod2", _service("failed"), None, may_ask=False),
    ]
    assert table(instances, _NOW, Terminal()) == [
        "INSTANCE  SERVICE  SINCE  API            POLL  LABELS      SLOTS  RUNS  RESTARTS  VERSION",
        "prod1     active   1m00s  answers 1m30s    2s  prod1, etl    1/4     1         2  0.1.0",
        "prod2     failed       -  -                 -  -               -     0         2  -",
    ]
    assert table([], _NOW, Terminal()) == ["no instance of local-agent is on this host"]
    assert in_words(_PRESSURE) == "pressure: cpu 1.2 %, io 0.0 %; 2.0G of memory available"


def test_it_fits() -> None:
    for width in (60, 80, 100, 132, 200):
        lines = table([Instance("prod1", _service(), _agent(), may_ask=True)], _NOW, Terminal(width))
        assert max(map(width_of, lines)) <= width


def test_what_a_script_gets() -> None:
    instance = Instance("prod1", _service(), _agent(api=_lost()), may_ask=True, runs=1)
    printed = json.loads(json.dumps(as_json([instance], _PRESSURE, ["a problem"], _NOW)))
    assert (printed["format"], printed["ok"], printed["problems"]) == (1, False, ["a problem"])
    assert printed["machine"]["pressure_cpu_percent"] == 1.25
    (shown,) = printed["instances"]
    assert shown["service"]["since"] == "2026-01-01T11:59:00.000+00:00"
    assert shown["agent"]["api"]["reachable"] is False
    assert shown["problem"].startswith("API unreachable")
