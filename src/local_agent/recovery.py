"""At the agent's start: what the disk remembers, taken up again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_agent import events

if TYPE_CHECKING:
    from local_agent.events import EventLog
    from local_agent.model import Record
    from local_agent.store import Store


def remembered(store: Store, log: EventLog) -> tuple[Record, ...]:
    """Return the records of runs whose story is not over. A record that cannot be read is said and put aside."""
    records, problems = store.load_all()
    for problem in problems:
        log.say(events.STATE_PROBLEM, reason=problem)
    return records
