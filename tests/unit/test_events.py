"""What the agent says: the table of events, and the two places they go to."""

from __future__ import annotations

import io
import re
import uuid
from datetime import UTC, datetime

import pytest

from local_agent import events
from local_agent.events import ConsoleLog, Event, Subject

_NOW = datetime(2026, 3, 1, 7, 10, 9, 154321, tzinfo=UTC)
_RUN = Subject("an-id", "calm-otter", "etl")


def _console(least: int = 6) -> tuple[ConsoleLog, io.StringIO]:
    stream = io.StringIO()
    return ConsoleLog(stream, "prod1", lambda: _NOW, lambda: least), stream


def test_no_event_has_the_id_of_another() -> None:
    table = events.all_events()
    assert len({event.message_id for event in table.values()}) == len(table) > 20


@pytest.mark.parametrize("event", events.all_events().values(), ids=events.all_events().keys())
def test_an_event_is_well_formed(event: Event) -> None:
    assert uuid.UUID(event.message_id).hex == event.message_id, "as systemd writes a message id: 32 lower-case digits"
    assert event.priority in (3, 4, 5, 6, 7)
    assert not event.text.endswith(".")


def test_a_line_on_the_console_is_like_the_original_agents() -> None:
    log, stream = _console()
    log.say(events.ENDED, _RUN, how="Exited with code 0")
    assert stream.getvalue() == (
        "[2026-03-01 07:10:09,154] INFO - prod1 | Flow run calm-otter (an-id) of etl ended: Exited with code 0\n"
    )


@pytest.mark.parametrize(
    ("level", "said"),
    [("DEBUG", "DIWE"), ("INFO", "IWE"), ("WARNING", "WE"), ("ERROR", "E"), ("CRITICAL", "E")],
)
def test_a_level_lets_through_what_is_at_least_as_important(level: str, said: str) -> None:
    log, stream = _console(events.priority_of(level))
    log.say(events.TAKEN, _RUN)
    log.say(events.STARTED, version="1", launcher="process", manager="no scopes")
    log.say(events.SETTING_WARNING, warning="look")
    log.say(events.LAUNCH_FAILED, _RUN, reason="no")
    assert "".join(re.findall(r"\] ([DIWE])", stream.getvalue())) == said


def test_a_console_that_is_gone_stops_nobody() -> None:
    log, stream = _console()
    stream.close()
    log.say(events.SETTING_WARNING, warning="look")


def test_words_with_braces_are_said_as_they_are() -> None:
    log, stream = _console()
    log.say(events.STATE_PROBLEM, reason="{name} {0} {}")
    assert stream.getvalue().endswith("| {name} {0} {}\n")


def test_what_a_flow_calls_itself_cannot_look_like_a_line_of_ours() -> None:
    log, stream = _console()
    subject = Subject("an-id", "otter\n[2026] INFO - prod1 | forged", "\x1b[31m\u202e" + "e" * 3000)
    log.say(events.ENDED, subject, how="said\r\nforged")
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    assert "otter?[2026] INFO" in line
    assert len(line) < 500
