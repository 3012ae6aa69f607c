"""docs/commands says what the commands do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_agent.cli.show import deed_as_json
from local_agent.errors import NotFoundError
from local_agent.host.doctor import checkup
from local_agent.host.doctor.check import ok
from local_agent.host.log import render
from local_agent.host.log.timeline import Line, Source
from local_agent.host.output import ps, status
from local_agent.host.reading.instances import Instance, Service
from local_agent.host.reading.place import Place
from local_agent.host.reading.runs import Overview, Run
from local_agent.host.top import view
from local_agent.host.top.history import Histories
from local_agent.report import AgentReport
from support.commands_docs import COMMANDS, DOCS, command_named, documented_keys, help_of, undocumented

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_SERVICE = Service("u", "system", "active", "running", "success", 0, "", 0, _NOW, is_enabled=True)
_AGENT = AgentReport.from_json(
    {
        "instance": "a",
        "version": "1",
        "labels": [],
        "runs": [],
        "draining": False,
        "takes_none_because": "",
        "unfit_because": "",
        "slots": {"limit": 1, "taken": 0},
        "api": {"url": "http://x", "reachable": True, "for_seconds": 1.0, "reason": "", "answered_seconds_ago": 1.0},
    }
)
_PLACE = Place(1, 1000, "u", "system", Path("/x"))
_PRINTED: Mapping[str, Mapping[str, Any]] = {
    "ps": ps.as_json(Overview((Run("i", "n", "f", "a", "running"),)), _NOW),
    "top": view.as_json(view.Snapshot((), Histories(), status.Pressure(1, 1, 1, 1), _NOW))
    | {"runs": [{"cpu_percent": 1}]},
    "cancel": deed_as_json("x", None, "y", NotFoundError("y", hint="z")),
    "logs": render.as_json(Line(_NOW, Source.FLOW, 6, "x", "i")),
    "status": status.as_json(
        [Instance("a", _SERVICE, _AGENT, may_ask=True, place=_PLACE)], status.Pressure(1, 1, 1, 1), [], _NOW
    ),
    "doctor": checkup.as_json([ok("x", "y")], _NOW),
}


def test_every_key_of_json_is_documented() -> None:
    assert documented_keys().keys() == _PRINTED.keys()
    for command, printed in _PRINTED.items():
        assert undocumented(command, printed) == set(), command


def test_every_page_has_the_commands_help() -> None:
    """Those that take every option of `start` have it in their man pages."""
    pages = {path.stem: path for path in DOCS.glob("*.md")}
    long = {"config", "install"}
    commands = set(COMMANDS) - {"start", "server"}
    assert pages.keys() - {"README", "json", "metrics"} == commands
    for name in commands - long:
        assert f"```text\n{help_of(name)}```\n" in pages[name].read_text(), f"docs/commands/{name}.md"


def test_every_command_says_its_exit_codes() -> None:
    for name in COMMANDS:
        assert "Exit code" in (command_named(name).help or ""), name
