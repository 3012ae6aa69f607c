"""At the agent's start: what the disk remembers, taken up again, and what lives here without being remembered.

A flow run that lives without a record (its file was removed or damaged) is adopted: it holds a place, it can be
cancelled, what it leaves behind is ended. Nothing proves any more which claim it rests on, so its end is said here and
the API is not told. A scope of the agent's slice in which no shim lives, only what a flow run left behind, is ended,
unless leftovers are to stay. One with a shim of another state folder is another agent's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from local_agent import events
from local_agent.errors import StateError
from local_agent.events import Subject
from local_agent.linux import procfs
from local_agent.model import Record, Step

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from local_agent.events import EventLog
    from local_agent.launchers import Launcher, Lost
    from local_agent.store.records import Store


def remembered(store: Store, launchers: Collection[str], log: EventLog) -> tuple[Record, ...]:
    """Return the records of runs whose story is not over. A record that cannot be read is said and put aside.

    One of a launcher that is not among these is said and left as it is: nobody else can tell what became of its run.
    """
    records, problems = store.load_all()
    for problem in problems:
        log.say(events.STATE_PROBLEM, reason=problem)
    for record in records:
        if not _is_known(record, launchers):
            reason = f"its flow run was launched by {record.launcher!r}, which is not here; it is left alone"
            log.say(events.STATE_PROBLEM, Subject(record.id, record.name, record.flow_name), reason=reason)
    return tuple(record for record in records if _is_known(record, launchers))


def _is_known(record: Record, launchers: Collection[str]) -> bool:
    return not record.launcher or record.launcher in launchers


def forgotten(store: Store, launcher: Launcher, log: EventLog, *, leftovers: bool) -> tuple[Record, ...]:
    """Return new records, each said and on disk, of the flow runs of this agent that live without one."""
    found = launcher.lost(store.ids(), leftovers=leftovers)
    return _recorded(store, [_taken_up(one, log) for one in found], log)


def _recorded(store: Store, records: Sequence[Record], log: EventLog) -> tuple[Record, ...]:
    for record in records:
        try:
            store.save(record)
        except StateError as error:
            log.say(events.STATE_PROBLEM, reason=error.message)
    return tuple(records)


def _taken_up(lost: Lost, log: EventLog) -> Record:
    log.say(events.NO_RECORD, Subject(lost.id, "", ""), where=lost.where)
    now = datetime.now(UTC)
    return Record(
        id=lost.id,
        name="",
        flow_name="",
        nonce="",
        step=Step.RUNNING,
        boot_id=procfs.boot_id(),
        due=now,
        claimed_at=now,
        launcher=lost.launcher,
        handle=lost.handle,
    )
