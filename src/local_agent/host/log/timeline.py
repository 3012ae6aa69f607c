"""What was said about a flow run, in one timeline: by itself, by its agent, by systemd.

journald knows the unit of a line only if its writer still lives when it looks: of short-lived processes it loses about
half. The identifier goes with the stream and is never lost, but any user can write under any identifier. So a line is
looked up by identifier, unit and FLOW_RUN_ID alike, and only what root or the agent's user wrote is believed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from local_agent import events
from local_agent.host.reading import gaps
from local_agent.host.reading.journal import Group, text_of, uid_matches
from local_agent.units.names import flow_run_in, identifier_of, instance_of, scope_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from local_agent.host.reading.gaps import Gap
    from local_agent.host.reading.journal import Journal

_FIELDS = (
    *("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "FLOW_RUN_ID", "FLOW_RUN_NAME", "LOCAL_AGENT", "MESSAGE_ID"),
    *("UNIT", "USER_UNIT", "_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT", "_SYSTEMD_SLICE", *gaps.FIELDS),
)
_AGENT = "local-agent"
_IDENTIFIER = "flow-run-"
_USUAL_PRIORITY = 6
_WARNING = 4
# Prefect's own format of a line, and the syslog priority of its levels
_PREFECT_LINE = re.compile(r"\[[^\]]+\] (DEBUG|INFO|WARNING|ERROR|CRITICAL) +- ")
_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
_ENDS = frozenset(event.message_id for event in (events.ENDED, events.CRASHED, events.LAUNCH_FAILED))
_USEC = 1_000_000


class Source(Enum):
    """Who said a line."""

    FLOW = "flow"
    AGENT = "agent"
    SYSTEMD = "systemd"


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of the timeline. `priority` is syslog's: 3 is an error, 4 a warning, 7 for debugging."""

    at: datetime
    source: Source
    priority: int
    text: str
    flow_run_id: str
    run_name: str = ""
    instance: str = ""
    is_end: bool = False


def groups_of(flow_run_id: str, uids: Collection[int]) -> list[Group]:
    """Return what to ask the journal for, to get everything about a flow run that these users or root said.

    And what journald says of lines that are missing.
    """
    users, unit = uid_matches(uids), scope_of(flow_run_id)
    fields = ("_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT", "UNIT", "USER_UNIT")
    return [
        (f"SYSLOG_IDENTIFIER={identifier_of(flow_run_id)}", *users),
        (f"FLOW_RUN_ID={flow_run_id}", *users),
        *((f"{field}={unit}", *users) for field in fields),
        gaps.ASKED,
    ]


def groups_of_all(uids: Collection[int]) -> list[Group]:
    """Return what to ask the journal for, to get everything that these users said: `lines` picks the flow runs' out."""
    return [tuple(f"_UID={uid}" for uid in sorted(uids)), gaps.ASKED]


def lines(journal: Journal, groups: Iterable[Group], options: Sequence[str]) -> Iterator[Line]:
    """Return what the journal has about flow runs, in its order. `options` are journalctl's."""
    latest: dict[str, Line] = {}  # of each unit, what a flow run in it said last
    for entry in journal.entries(groups, options, _FIELDS):
        gap = gaps.gap_of(entry)
        line = line_of(entry) if gap is None else _line_of_gap(gap, entry, latest)
        if line is not None:
            if line.source is Source.FLOW:
                latest[text_of(entry, "_SYSTEMD_UNIT")] = line
            yield line


def line_of(entry: Mapping[str, Any]) -> Line | None:
    """Given an entry, return it as a line; None where it is about no flow run."""
    identifier = text_of(entry, "SYSLOG_IDENTIFIER")
    flow_run_id = _flow_run_in(entry, identifier)
    if not flow_run_id:
        return None
    text = text_of(entry, "MESSAGE")
    source = _source_of(entry, identifier)
    return Line(
        at=_time_of(entry),
        source=source,
        priority=_priority_of(entry, text, source),
        text=text,
        flow_run_id=flow_run_id,
        run_name=text_of(entry, "FLOW_RUN_NAME"),
        instance=text_of(entry, "LOCAL_AGENT") or instance_of(text_of(entry, "_SYSTEMD_SLICE")),
        is_end=source is Source.AGENT and text_of(entry, "MESSAGE_ID") in _ENDS,
    )


def _line_of_gap(gap: Gap, entry: Mapping[str, Any], latest: Mapping[str, Line]) -> Line | None:
    """Return a gap as a line of the flow run whose scope it is, or that said something in its unit before."""
    known = latest.get(gap.unit)
    flow_run_id = flow_run_in(gap.unit) or (known.flow_run_id if known else "")
    if not flow_run_id:
        return None
    instance = known.instance if known else ""
    return Line(_time_of(entry), Source.SYSTEMD, _WARNING, gap.in_words, flow_run_id, instance=instance)


def _time_of(entry: Mapping[str, Any]) -> datetime:
    return datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / _USEC, UTC)


def of_instance(found: Iterable[Line], instance: str, look_up: Callable[[str], str]) -> Iterator[Line]:
    """Return the lines of one instance's flow runs. `look_up` returns a flow run's instance where no line tells it."""
    known: dict[str, str] = {}
    for line in found:
        if line.instance:
            known[line.flow_run_id] = line.instance
        elif line.flow_run_id not in known:
            known[line.flow_run_id] = look_up(line.flow_run_id)
        if known[line.flow_run_id] == instance:
            yield line


def _flow_run_in(entry: Mapping[str, Any], identifier: str) -> str:
    if identifier.startswith(_IDENTIFIER):
        return identifier.removeprefix(_IDENTIFIER)
    said = text_of(entry, "FLOW_RUN_ID")
    units = (text_of(entry, field) for field in ("_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT", "UNIT", "USER_UNIT"))
    return said or next((flow_run for unit in units if (flow_run := flow_run_in(unit))), "")


def _source_of(entry: Mapping[str, Any], identifier: str) -> Source:
    if identifier == _AGENT and "FLOW_RUN_ID" in entry:
        return Source.AGENT
    about = text_of(entry, "UNIT") or text_of(entry, "USER_UNIT")
    return Source.SYSTEMD if identifier == "systemd" and about else Source.FLOW


def _priority_of(entry: Mapping[str, Any], text: str, source: Source) -> int:
    """What a flow run prints has one priority for all; the levels that Prefect writes into its lines tell more."""
    written = _PREFECT_LINE.match(text) if source is Source.FLOW else None
    if written:
        return _PRIORITIES[written.group(1)]
    priority = text_of(entry, "PRIORITY")
    return int(priority) if priority.isdigit() else _USUAL_PRIORITY
