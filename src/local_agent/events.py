"""Everything the agent says about itself, as a table, and the two places it says it to: the journal and a console.

Each event has an id for `journalctl MESSAGE_ID=` and `journalctl -x`; a test checks that none is used twice. To add
one, add a line here and say it with `log.say(NEW_EVENT, ...)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from local_agent.aio.outbox import Outbox
from local_agent.plain import MAX_TEXT, sendable, short, without_credentials
from local_agent.systemd import journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from local_agent.aio.outbox import Sink


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of message: its id, its syslog priority (3 error, 4 warning, 5 notice, 6 info, 7 debug), its text."""

    message_id: str
    priority: int
    text: str


@dataclass(frozen=True, slots=True)
class Subject:
    """The flow run that an event is about."""

    id: str
    name: str
    flow_name: str


STARTED = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c101", 6, "local-agent {version} started: {launcher} launcher, {manager}")
REGISTERED = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c102", 6, "Registered at {api} with {asks_for}")
TENANT_CHOSEN = Event("b1b4c0a2e7c94b0c8f6d1c3a5e2f7d90", 4, "{choice}")
API_LOST = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c103", 4, "{reason}; trying again until it answers")
API_BACK = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c104", 5, "The API answers again after {outage}")
SETTING_WARNING = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c105", 4, "{warning}")
RELOADED = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c106", 5, "Settings read again: {changed}")
RELOAD_FAILED = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c107", 3, "The old settings stay: {reason}")
STOPPING = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c108", 6, "Stopping because of {reason}; {live} flow runs {fate}")
NO_PREFECT = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c109", 3, "No flow run is taken: {reason}")
PREFECT_FOUND = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c10a", 5, "{python} has prefect now; flow runs are taken")
INTAKE_PAUSED = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c10b", 5, "No further flow run is taken: {reason}")
INTAKE_RESUMED = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c10c", 5, "Flow runs are taken again")
STATE_PROBLEM = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c10e", 3, "{reason}")
INTERNAL_ERROR = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c10f", 3, "A fault of local-agent itself: {reason}")
UNNAMED_BESIDE = Event(
    "1f0c9f5a6d9e4c52a7f3f3b1f7a0c110",
    6,
    "Another agent without an --instance name runs here; this one remembers its flow runs in {folder}",
)
ENDS_WITH_SERVICE = Event(
    "1f0c9f5a6d9e4c52a7f3f3b1f7a0c131",
    4,
    "Flow runs have no scopes of their own: {reason}. They end when {unit} is stopped or restarted "
    "(KillMode={kill_mode}), and are reported by on_crash",
)
MESSAGES_LOST = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c130", 4, "{count} messages of this agent were lost while {reason}")
CLOCK_WRONG = Event(
    "1f0c9f5a6d9e4c52a7f3f3b1f7a0c112",
    4,
    "This machine's clock is {how} the API's: flow runs start when both have reached their start time",
)
CLOCK_RIGHT = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c113", 5, "This machine's clock and the API's agree again")
NOTHING_TAKEN = Event(
    "1f0c9f5a6d9e4c52a7f3f3b1f7a0c114", 4, "The queue answers, but claims and ends do not get through: {reason}"
)
TAKEN_AGAIN = Event("1f0c9f5a6d9e4c52a7f3f3b1f7a0c115", 5, "Claims and ends get through to the API again")

TAKEN = Event("2f0c9f5a6d9e4c52a7f3f3b1f7a0c201", 7, "Took flow run {run} from the queue")
CLAIM_LOST = Event("2f0c9f5a6d9e4c52a7f3f3b1f7a0c202", 7, "Flow run {run} went to another agent, or was cancelled")
LAUNCHED = Event("2f0c9f5a6d9e4c52a7f3f3b1f7a0c203", 6, "Flow run {run} of {flow} started: {where}")
LAUNCH_FAILED = Event("2f0c9f5a6d9e4c52a7f3f3b1f7a0c204", 3, "Flow run {run} could not be started: {reason}")
ADOPTED = Event("2f0c9f5a6d9e4c52a7f3f3b1f7a0c205", 6, "Flow run {run} of {flow} is still running, adopted: {where}")
ENDED = Event("2f0c9f5a6d9e4c52a7f3f3b1f7a0c206", 6, "Flow run {run} of {flow} ended: {how}")
CRASHED = Event("2f0c9f5a6d9e4c52a7f3f3b1f7a0c207", 4, "Flow run {run} of {flow} ended: {how}; {told}")
CANCELLING = Event(
    "2f0c9f5a6d9e4c52a7f3f3b1f7a0c208", 5, "Flow run {run} is cancelled and did not end itself: stopping it"
)
GIVEN_BACK = Event("2f0c9f5a6d9e4c52a7f3f3b1f7a0c209", 5, "Flow run {run} was given back to the queue: {reason}")
UNSUPPORTED = Event("2f0c9f5a6d9e4c52a7f3f3b1f7a0c20a", 4, "Flow run {run} of {flow} is left to other agents: {reason}")
HEARTBEAT_SENT = Event(
    "2f0c9f5a6d9e4c52a7f3f3b1f7a0c20b", 7, "Flow run {run} lives but sends no heartbeat; sent for it"
)
NO_RECORD = Event(
    "2f0c9f5a6d9e4c52a7f3f3b1f7a0c211",
    4,
    "Flow run {run} lives here and its record is gone, taken up without: {where}. The API is not told of its end",
)
REPORT_WAITS = Event("2f0c9f5a6d9e4c52a7f3f3b1f7a0c20c", 4, "The end of flow run {run} is not reported yet: {reason}")
NOT_UNDERSTOOD = Event("2f0c9f5a6d9e4c52a7f3f3b1f7a0c20d", 3, "Ignoring a flow run whose data is invalid: {reason}")
HINT_PROBLEM = Event("2f0c9f5a6d9e4c52a7f3f3b1f7a0c20e", 4, "Flow run {run}: {reason}")
LEFT_SCOPE = Event(
    "2f0c9f5a6d9e4c52a7f3f3b1f7a0c212",
    3,
    "Flow run {run} of {flow} has left its scope, and so its limits, for {where}: ending it",
)
NEAR_MISS = Event("2f0c9f5a6d9e4c52a7f3f3b1f7a0c20f", 4, "Flow run {run} of {flow} waits: {reason}")
OTHER_API = Event(
    "2f0c9f5a6d9e4c52a7f3f3b1f7a0c216",
    4,
    "Flow run {run} of {flow} was claimed at an API of another kind, {kind}: its record waits for an agent of that",
)
LEFT_ALIVE = Event(
    "2f0c9f5a6d9e4c52a7f3f3b1f7a0c2a1", 4, "Flow run {run} has ended and left what cannot be ended or removed: {left}"
)


class EventLog(Protocol):
    """Takes events."""

    def say(self, event: Event, subject: Subject | None = None, **fields: object) -> None:
        """Say an event; `fields` fill its text, and are for programs: those that are None are not there."""


class JournalLog:
    """Writes entries with fields: FLOW_RUN_ID=, FLOW_RUN_NAME=, FLOW_NAME=, LOCAL_AGENT=, and what was said as
    LOCAL_AGENT_REASON= and so on (`field_of`): nobody has to take a sentence apart.

    Whoever says something does not wait for journald; `close` does, for so long.
    """

    def __init__(self, sink: Sink, instance: str, least_priority: Callable[[], int]) -> None:
        self._fields = {"LOCAL_AGENT": instance, "SYSLOG_IDENTIFIER": "local-agent"}
        self._least_priority = least_priority
        self._outbox = Outbox(
            sink, lambda count, why: self._entry(MESSAGES_LOST, None, {"count": count, "reason": why})
        )

    def say(self, event: Event, subject: Subject | None = None, **fields: object) -> None:
        """Have one entry sent."""
        if event.priority <= self._least_priority():
            self._outbox.put(self._entry(event, subject, fields))

    def close(self, within_seconds: float) -> None:
        """Wait until journald has everything, or so long."""
        self._outbox.close(within_seconds)

    def _entry(self, event: Event, subject: Subject | None, fields: Mapping[str, object]) -> bytes:
        extra = {"MESSAGE_ID": event.message_id, **self._fields, **_subject_fields(subject), **_own(event, fields)}
        return journal.entry(_filled(event, subject, fields), event.priority, extra)


class ConsoleLog:
    """Writes lines as the original agent did: [time in UTC] LEVEL - name | text.

    Whoever says something does not wait for the console's reader; `close` does, for so long. What else is shown on
    the console goes through `outbox`, too.
    """

    def __init__(self, sink: Sink, name: str, now: Callable[[], datetime], least_priority: Callable[[], int]) -> None:
        self._name = name
        self._now = now
        self._least_priority = least_priority
        self.outbox = Outbox(sink, lambda count, why: self._line(MESSAGES_LOST, None, {"count": count, "reason": why}))

    def say(self, event: Event, subject: Subject | None = None, **fields: object) -> None:
        """Have one line printed."""
        if event.priority <= self._least_priority():
            self.outbox.put(self._line(event, subject, fields))

    def close(self, within_seconds: float) -> None:
        """Wait until everything is printed, or so long."""
        self.outbox.close(within_seconds)

    def _line(self, event: Event, subject: Subject | None, fields: Mapping[str, object]) -> bytes:
        at = self._now().strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
        line = f"[{at}] {_LEVELS[event.priority]} - {self._name} | {_filled(event, subject, fields)}\n"
        return line.encode(errors="backslashreplace")


_LEVELS = {3: "ERROR", 4: "WARNING", 5: "INFO", 6: "INFO", 7: "DEBUG"}


def priority_of(level: str) -> int:
    """Given a level's name, return the least syslog priority that it lets through."""
    return {"DEBUG": 7, "INFO": 6, "WARNING": 4}.get(level, 3)


def _filled(event: Event, subject: Subject | None, fields: Mapping[str, object]) -> str:
    """Return the text as one line: whoever may register a flow chooses names and more. A traceback has several."""
    about = {"run": f"{short(subject.name)} ({subject.id})", "flow": short(subject.flow_name)} if subject else {}
    text = without_credentials(event.text.format(**about, **fields))
    # bounded: a reason may hold an answer of the API, and a datagram to journald has a limit
    return sendable(text) if event is INTERNAL_ERROR else short(text, MAX_TEXT)


def field_of(name: str) -> str:
    """Return the journal's field for something that is said with an event: exit_code -> LOCAL_AGENT_EXIT_CODE."""
    return f"LOCAL_AGENT_{name.upper()}"


def _own(event: Event, fields: Mapping[str, object]) -> dict[str, str]:
    if event is INTERNAL_ERROR:  # a traceback, and the message has it
        return {}
    return {
        field_of(name): short(without_credentials(str(value)), MAX_TEXT)
        for name, value in fields.items()
        if value is not None
    }


def _subject_fields(subject: Subject | None) -> dict[str, str]:
    if subject is None:
        return {}
    names = {"FLOW_RUN_NAME": short(subject.name), "FLOW_NAME": short(subject.flow_name)}
    return {"FLOW_RUN_ID": subject.id, **names}


def all_events() -> Mapping[str, Event]:
    """Return every event by its name, for the message catalog and the manual."""
    return {name: value for name, value in globals().items() if isinstance(value, Event)}
