"""What the agent says: the table of events, and the two places they go to."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from string import Formatter

import pytest

from local_agent import events
from local_agent.events import ConsoleLog, Event, JournalLog, Subject
from local_agent.model import Cause, Cost, End
from local_agent.wording import end_fields
from support.sinks import Taker

_NOW = datetime(2026, 3, 1, 7, 10, 9, 154321, tzinfo=UTC)
_RUN = Subject("an-id", "calm-otter", "etl")


class _Console(ConsoleLog):
    """A console, and what was printed on it."""

    def __init__(self, least: int = 6) -> None:
        self._sink = Taker()
        super().__init__(self._sink, "prod1", lambda: _NOW, lambda: least)

    def printed(self) -> str:
        """Return everything that was said."""
        self.close(60)
        return self._sink.text


def test_no_event_has_the_id_of_another() -> None:
    table = events.all_events()
    assert len({event.message_id for event in table.values()}) == len(table) > 20


@pytest.mark.parametrize("event", events.all_events().values(), ids=events.all_events().keys())
def test_an_event_is_well_formed(event: Event) -> None:
    assert uuid.UUID(event.message_id).hex == event.message_id, "as systemd writes a message id: 32 lower-case digits"
    assert event.priority in (3, 4, 5, 6, 7)
    assert not event.text.endswith(".")


def test_a_line_on_the_console_is_like_the_original_agents() -> None:
    log = _Console()
    log.say(events.ENDED, _RUN, how="Exited with code 0")
    assert log.printed() == (
        "[2026-03-01 07:10:09,154] INFO - prod1 | Flow run calm-otter (an-id) of etl ended: Exited with code 0\n"
    )


@pytest.mark.parametrize(
    ("level", "said"),
    [("DEBUG", "DIWE"), ("INFO", "IWE"), ("WARNING", "WE"), ("ERROR", "E"), ("CRITICAL", "E")],
)
def test_a_level_lets_through_what_is_at_least_as_important(level: str, said: str) -> None:
    log = _Console(events.priority_of(level))
    log.say(events.TAKEN, _RUN)
    log.say(events.STARTED, version="1", launcher="process", manager="no scopes")
    log.say(events.SETTING_WARNING, warning="look")
    log.say(events.LAUNCH_FAILED, _RUN, reason="no")
    assert "".join(re.findall(r"\] ([DIWE])", log.printed())) == said


def test_what_was_lost_is_a_line_like_the_others() -> None:
    sink = Taker()
    sink.hold()
    log = ConsoleLog(sink, "prod1", lambda: _NOW, lambda: 6)
    for number in range(10_000):
        log.say(events.STATE_PROBLEM, reason=f"{number} {'x' * 1000}")
    sink.release()
    log.close(60)
    lines = sink.text.splitlines()
    lost = 10_000 - (len(lines) - 1)
    assert 0 < lost < 10_000
    words = f"{lost} messages of this agent were lost while the reader did not read"
    assert lines[-1] == f"[2026-03-01 07:10:09,154] WARNING - prod1 | {words}"


def test_an_entry_has_its_fields_and_lines_within_a_value_do_not_end_it() -> None:
    sink = Taker()
    log = JournalLog(sink, "prod1", lambda: 6)
    log.say(events.INTERNAL_ERROR, _RUN, reason="one\nPRIORITY=0\n")
    log.close(60)
    fields = _fields(sink.taken[0])
    assert fields["MESSAGE"] == "A fault of local-agent itself: one\nPRIORITY=0\n"
    assert fields["PRIORITY"] == "3"
    assert fields["FLOW_RUN_ID"] == "an-id"
    assert fields["LOCAL_AGENT"] == "prod1"
    assert len(fields) == 8


def test_what_is_said_is_there_for_programs_too() -> None:
    end = End(Cause.EXITED, exit_code=3, cost=Cost(cpu_seconds=1.25, memory_peak_bytes=4096))
    fields = _sent(events.CRASHED, how="Exited with code 3", told="reported to the API", **end_fields(end))
    assert {name: value for name, value in fields.items() if name.startswith("LOCAL_AGENT_")} == {
        "LOCAL_AGENT_HOW": "Exited with code 3",
        "LOCAL_AGENT_TOLD": "reported to the API",
        "LOCAL_AGENT_CAUSE": "exited",
        "LOCAL_AGENT_EXIT_CODE": "3",
        "LOCAL_AGENT_CPU_SECONDS": "1.25",
        "LOCAL_AGENT_MEMORY_PEAK_BYTES": "4096",
    }


def test_what_strangers_chose_is_made_fit_for_a_field() -> None:
    fields = _sent(events.API_LOST, reason="cannot reach https://user:secret@host/ \x1b[31mnow\nPRIORITY=0")
    assert fields["LOCAL_AGENT_REASON"] == "cannot reach https://***@host/ ?[31mnow?PRIORITY=0"
    assert fields["PRIORITY"] == "4"


def _sent(event: Event, **fields: object) -> dict[str, str]:
    sink = Taker()
    log = JournalLog(sink, "prod1", lambda: 6)
    log.say(event, _RUN, **fields)
    log.close(60)
    return _fields(sink.taken[0])


@pytest.mark.parametrize("event", events.all_events().values(), ids=events.all_events().keys())
def test_each_field_of_an_event_has_a_name_that_journald_takes(event: Event) -> None:
    """systemd.journal-fields(7): upper-case letters, digits and underscores, at most 64; others are dropped."""
    names = {name for _, name, _, _ in Formatter().parse(event.text) if name} - {"run", "flow"}
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", events.field_of(name)) for name in names)


def _fields(entry: bytes) -> dict[str, str]:
    """Read an entry as journald does: NAME=value, or NAME, its length and the value."""
    fields = {}
    while entry:
        line, _, rest = entry.partition(b"\n")
        name, is_text, value = line.partition(b"=")
        if is_text:
            entry = rest
        else:
            length = int.from_bytes(rest[:8], "little")
            value, entry = rest[8 : 8 + length], rest[9 + length :]
        fields[name.decode()] = value.decode()
    return fields


def test_words_with_braces_are_said_as_they_are() -> None:
    log = _Console()
    log.say(events.STATE_PROBLEM, reason="{name} {0} {}")
    assert log.printed().endswith("| {name} {0} {}\n")


def test_what_a_flow_calls_itself_cannot_look_like_a_line_of_ours() -> None:
    log = _Console()
    subject = Subject("an-id", "otter\n[2026] INFO - prod1 | forged", "\x1b[31m\u202e" + "e" * 3000)
    log.say(events.ENDED, subject, how="said\r\nforged")
    (line,) = log.printed().splitlines()
    assert line.isprintable()
    assert "otter?[2026] INFO" in line
    assert len(line) < 500
