"""docs/commands says what the commands do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from local_agent.host import doctor, ps, status, timeline
from local_agent.host.agents import agent_view
from local_agent.host.checks import ok
from local_agent.host.instances import Instance, Service
from local_agent.host.logs import Line, Source
from local_agent.host.runs import Overview, Run
from support.commands_docs import COMMANDS, DOCS, command_named, help_of

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_SERVICE = Service("u", "system", "active", "running", "success", 0, "", 0, _NOW, is_enabled=True)
_AGENT = agent_view(
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
_PRINTED: Mapping[str, Mapping[str, Any]] = {
    "ps": ps.as_json(Overview((Run("i", "n", "f", "a", "running"),)), _NOW),
    "logs": timeline.as_json(Line(_NOW, Source.FLOW, 6, "x", "i")),
    "status": status.as_json([Instance("a", _SERVICE, _AGENT, may_ask=True)], status.Pressure(1, 1, 1, 1), [], _NOW),
    "doctor": doctor.as_json([ok("x", "y")], _NOW),
}


def _keys(value: object, path: str = "") -> Iterator[str]:
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}{key}"
            yield from _keys(inner, f"{path}{key}.")


def test_every_key_of_json_is_documented() -> None:
    sections = re.split(r"^## local-agent ", (DOCS / "json.md").read_text(), flags=re.MULTILINE)[1:]
    rows = {section.split()[0]: re.findall(r"^\| ([a-z_.]+) \|", section, re.MULTILINE) for section in sections}
    documented = {command: set(keys) for command, keys in rows.items()}
    assert documented.keys() == _PRINTED.keys()
    for command, printed in _PRINTED.items():
        keys = set(_keys(printed))
        parents = {key for key in keys if any(other.startswith(f"{key}.") for other in keys)}
        named = documented[command] - {"key"}
        assert named <= keys, command
        assert keys - parents <= named, command


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
