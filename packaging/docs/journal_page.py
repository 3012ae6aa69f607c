"""local-agent-journal(7) and the message catalog, from the events and their explanations."""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from facts import Facts
from local_agent.events import Event, all_events
from local_agent.model import Cause, Outcome
from roff import Page

_EXPLANATIONS = Path(__file__).with_name("explanations.toml")
_LEVELS = {3: "error", 4: "warning", 5: "notice", 6: "info", 7: "debug"}

_DESCRIPTION = """\
Everything an agent says goes to the journal, each kind of message with an id of its own. `journalctl -x` explains a
message where it stands and says what to do. The output of a flow run is a stream of its own in the journal: it is
never relayed, so nothing is lost when the agent restarts.

    journalctl -u local-agent@prod1             what an instance says
    journalctl -t flow-run-ID                   what a flow run writes
    journalctl FLOW_RUN_ID=ID                   what the agents say about a flow run
    journalctl MESSAGE_ID=ID -o json            one kind of message, for programs
"""

_FIELDS = (
    ("MESSAGE_ID=", "The kind of message; see below."),
    ("PRIORITY=", "3 for errors to 7 for debugging. The setting log_level says which are written."),
    ("LOCAL_AGENT=", "The instance."),
    ("FLOW_RUN_ID=, FLOW_RUN_NAME=, FLOW_NAME=", "The flow run that it is about, where it is about one."),
    ("LOCAL_AGENT_CAUSE=", f"Why a flow run's process ended: {', '.join(cause.value for cause in Cause)}."),
    ("LOCAL_AGENT_EXIT_CODE=, LOCAL_AGENT_SIGNAL=", "Its exit code, or the signal that ended it."),
    ("LOCAL_AGENT_OUTCOME=", f"What its end came to at the API: {', '.join(outcome.value for outcome in Outcome)}."),
    ("LOCAL_AGENT_CPU_SECONDS=, LOCAL_AGENT_MEMORY_PEAK_BYTES=", "What it used, where its cgroup counted it."),
    ("LOCAL_AGENT_READ_BYTES=, LOCAL_AGENT_WRITTEN_BYTES=, LOCAL_AGENT_OOM_KILLS=", "The same of disks, and kills."),
    ("LOCAL_AGENT_REASON=, LOCAL_AGENT_HOW=, LOCAL_AGENT_WHERE=, ...", "The parts of which the message is made."),
    ("SYSLOG_IDENTIFIER=", "local-agent, or flow-run-ID for what a flow run writes."),
)


def explanations() -> Mapping[str, str]:
    """Return what is said about each event, by its name."""
    found: dict[str, str] = tomllib.loads(_EXPLANATIONS.read_text())
    return found


def page(facts: Facts) -> Page:
    """Return the page."""
    page = facts.page("local-agent-journal", 7, "what local-agent writes to the journal")
    page.heading("description")
    page.paragraphs(_DESCRIPTION)
    page.heading("fields")
    page.items(_FIELDS)
    page.heading("messages")
    page.items(_messages())
    page.see_also([*facts.other_pages, ("local-agent", 1), ("journalctl", 1)])
    return page


def _messages() -> Iterator[tuple[str, str]]:
    known = explanations()
    for name, event in all_events().items():
        text = known.get(name, "")
        yield _subject(event), f"{_LEVELS[event.priority]}, MESSAGE_ID={event.message_id}\n\n{text}".rstrip()


def _subject(event: Event) -> str:
    """The message's text with its variable parts in capitals."""
    return re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), event.text)


def catalog() -> str:
    """Return the message catalog (https://www.freedesktop.org/wiki/Software/systemd/catalog/)."""
    known = explanations()
    entries = [_entry(event, known.get(name, "")) for name, event in all_events().items()]
    return "# Made from the events of local-agent and their explanations\n\n" + "\n".join(entries)


def _entry(event: Event, text: str) -> str:
    body = "\n\n".join(textwrap.fill(" ".join(block.split()), 76) for block in text.strip().split("\n\n"))
    head = ["Defined-By: local-agent", "Documentation: man:local-agent-journal(7)"]
    return "\n".join([f"-- {event.message_id}", f"Subject: {_subject(event)}", *head, "", body or "@MESSAGE@", ""])
