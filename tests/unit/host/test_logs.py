"""A flow run's timeline: what is asked of the journal, whose word it is, how it looks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from local_agent import events
from local_agent.host.log.render import as_json, shown
from local_agent.host.log.search import LogsWanted, find_lines
from local_agent.host.log.timeline import Line, Source, groups_of, line_of, of_instance
from local_agent.host.reading.agents import StateFolder
from local_agent.host.table import Terminal
from local_agent.host.view import Host
from unit.host.fakes import asked_of, fake_journal, run_id

_RUN = run_id(1)
_AT = {"__REALTIME_TIMESTAMP": "1767225600123456"}


def _flow(text: str, number: int = 1, **more: object) -> dict[str, Any]:
    return {**_AT, "MESSAGE": text, "SYSLOG_IDENTIFIER": f"flow-run-{run_id(number)}", "PRIORITY": "6", **more}


def _agent(text: str, number: int = 1, event: events.Event = events.LAUNCHED) -> dict[str, Any]:
    said = {"FLOW_RUN_ID": run_id(number), "FLOW_RUN_NAME": "otter", "LOCAL_AGENT": "prod1", "_UID": "990"}
    return {
        **_AT,
        **said,
        "MESSAGE": text,
        "SYSLOG_IDENTIFIER": "local-agent",
        "PRIORITY": str(event.priority),
        "MESSAGE_ID": event.message_id,
    }


_SYSTEMD = {**_AT, "MESSAGE": "Consumed 5s", "SYSLOG_IDENTIFIER": "systemd", "UNIT": f"flow-run-{_RUN}.scope"}


def _line(entry: Mapping[str, Any]) -> Line:
    line = line_of(entry)
    assert line is not None
    return line


def test_only_root_and_the_agents_user_are_believed() -> None:
    groups = groups_of(_RUN, {990})
    assert len(groups) == 7
    assert all(group[1:] == ("_UID=0", "_UID=990") for group in groups[:-1])
    assert groups[-1][1:] == ("_TRANSPORT=driver",), "journald itself, of what it threw away"
    assert [group[0].partition("=")[0] for group in groups[:2]] == ["SYSLOG_IDENTIFIER", "FLOW_RUN_ID"]


def test_whose_word_a_line_is() -> None:
    assert [_line(entry).source for entry in (_flow("x"), _agent("y"), _SYSTEMD)] == [
        Source.FLOW,
        Source.AGENT,
        Source.SYSTEMD,
    ]
    assert {_line(entry).flow_run_id for entry in (_flow("x"), _agent("y"), _SYSTEMD)} == {_RUN}
    assert line_of({**_AT, "MESSAGE": "x", "SYSLOG_IDENTIFIER": "sshd"}) is None
    assert _line({**_AT, "MESSAGE": "x", "_SYSTEMD_UNIT": f"flow-run-{_RUN}.scope"}).source is Source.FLOW


@pytest.mark.parametrize(
    ("text", "priority"),
    [
        ("[2026-01-01 00:00:00+0000] ERROR - prefect.TaskRunner | no", 3),
        ("[2026-01-01 00:00:00+0000] WARNING  - prefect.x | hm", 4),
        ("[2026-01-01 00:00:00+0000] DEBUG - prefect.x | hm", 7),
        ("ERROR - of no known format", 6),
    ],
)
def test_prefects_levels_are_read(text: str, priority: int) -> None:
    assert _line(_flow(text)).priority == priority


def test_an_end_is_the_agents_word_alone() -> None:
    assert _line(_agent("ended: Exited with code 0", event=events.ENDED)).is_end
    assert not _line(_flow("ended", MESSAGE_ID=events.ENDED.message_id)).is_end


def test_lines_of_another_instance_are_left_out() -> None:
    looked_up: list[str] = []

    def look_up(flow_run_id: str) -> str:
        looked_up.append(flow_run_id)
        return "prod2"

    lines = [_line(_agent("a")), _line(_flow("b")), _line(_flow("c", 2)), _line(_flow("d", 2)), _line(_flow("e"))]
    assert [line.text for line in of_instance(lines, "prod1", look_up)] == ["a", "b", "e"]
    assert looked_up == [run_id(2)], "each run is looked up once"


def test_what_journalctl_is_told() -> None:
    assert LogsWanted("x").options() == ["--lines=all"]
    assert LogsWanted("x", follow=True, most=5, since="-2h", until="now").options() == [
        *("--since=-2h", "--until=now", "--follow", "--lines=5")
    ]
    assert "--boot" in LogsWanted(None).options()
    assert "--boot" not in LogsWanted(None, since="-2h").options()


def test_what_is_not_wanted_is_not_asked_for() -> None:
    groups = groups_of(_RUN, {990})
    fields = {
        name: {group[0].partition("=")[0] for group in wanted.narrowed(groups)}
        for name, wanted in {"flow": LogsWanted("x", flow_only=True), "agent": LogsWanted("x", agent_only=True)}.items()
    }
    assert fields["flow"] == {"MESSAGE_ID", "SYSLOG_IDENTIFIER", "_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT"}
    assert fields["agent"] == {"MESSAGE_ID", "FLOW_RUN_ID", "UNIT", "USER_UNIT"}


def _host(folder: Path, *entries: Mapping[str, Any]) -> Host:
    journal = fake_journal(folder, entries, [_RUN])
    return Host(1000, {}, (StateFolder("prod1", folder, 990), StateFolder("prod2", folder, 991)), journal)


def test_a_run_of_the_past_is_shown_and_not_followed(tmp_path: Path) -> None:
    host = _host(tmp_path, _agent("started"), _flow("x"), _agent("ended: well", event=events.ENDED))
    lines = list(find_lines(host, LogsWanted(_RUN[:8], follow=True)))
    assert [line.text for line in lines] == ["started", "x", "ended: well"]
    asked = asked_of(tmp_path)[-1]
    assert "--follow" not in asked, "nothing would come"
    assert "_UID=990" in asked
    assert "_UID=991" not in asked, "another instance's user could forge it"


def test_one_source_only(tmp_path: Path) -> None:
    host = _host(tmp_path, _agent("started"), _flow("x"), _SYSTEMD)
    assert [line.text for line in find_lines(host, LogsWanted(_RUN, flow_only=True))] == ["x"]
    assert [line.text for line in find_lines(host, LogsWanted(_RUN, agent_only=True))] == ["started", "Consumed 5s"]


def test_all_runs_of_an_instance(tmp_path: Path) -> None:
    host = _host(tmp_path, _agent("started"), _flow("x"), {**_AT, "MESSAGE": "not a run's"})
    assert [line.text for line in find_lines(host, LogsWanted(instance="prod1"))] == ["started", "x"]
    assert list(find_lines(host, LogsWanted(instance="prod2"))) == []


def test_how_it_looks() -> None:
    line = _line(_flow("one\ntwo\x1b[31m red\x1b[0m\x07"))
    first, second = shown(line, Terminal()).splitlines()
    assert first[19:] == " flow    one"
    assert second.strip() == "two red\\x07"
    assert second.index("two") == first.index("one")
    assert shown(line, Terminal(), {_RUN: "otter"}).splitlines()[0].endswith(" flow    otter one")


def test_colours_by_level() -> None:
    on = Terminal(colours=True)
    assert "\x1b[31mbad\x1b[0m" in shown(_line(_flow("bad", PRIORITY="3")), on)
    assert "\x1b[36magent\x1b[0m" in shown(_line(_agent("x")), on)


def test_what_a_script_gets() -> None:
    assert as_json(_line(_agent("x"))) == {
        "at": "2026-01-01T00:00:00.123456+00:00",
        "source": "agent",
        "priority": 6,
        "flow_run_id": _RUN,
        "text": "x",
    }
