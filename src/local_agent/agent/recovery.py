"""At the agent's start: what the disk remembers, taken up again, and what lives here without being remembered.

A flow run that lives without a record (its file was removed or damaged) is adopted: it holds a place, it can be
cancelled, what it leaves behind is ended. Nothing proves any more which claim it rests on, so its end is said here and
the API is not told. A scope of the agent's slice in which no shim lives, only what a flow run left behind, is ended,
unless leftovers are to stay. One with a shim of another state folder is another agent's.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent import events
from local_agent.errors import StateError
from local_agent.events import Subject
from local_agent.launchers.handle import ProcessHandle
from local_agent.linux import cgroup, procfs
from local_agent.model import Record, Step
from local_agent.units.names import flow_run_of, scope_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from local_agent.events import EventLog
    from local_agent.model import ProcessIdentity
    from local_agent.store.records import Store

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHIM = "/shim.sh"
_MOST_BYTES = 65536


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


def forgotten(store: Store, slice_name: str, log: EventLog, root: Path = cgroup.ROOT) -> tuple[Record, ...]:
    """Return new records, each said and on disk, of the flow runs of this agent that live without one.

    Those are the shims of its state folder, and what is left in the scopes of a slice, "" for none.
    """
    known = store.ids()
    shims = _shims_of(store.base_of("x").parent)
    ids = {*shims, *_leftovers_in(slice_name, root)} - known
    return _recorded(store, [_taken_up(run_id, shims.get(run_id), log) for run_id in sorted(ids)], log)


def _recorded(store: Store, records: Sequence[Record], log: EventLog) -> tuple[Record, ...]:
    for record in records:
        try:
            store.save(record)
        except StateError as error:
            log.say(events.STATE_PROBLEM, reason=error.message)
    return tuple(records)


def _taken_up(flow_run_id: str, process: ProcessIdentity | None, log: EventLog) -> Record:
    unit = scope_of(flow_run_id)
    is_in_scope = process is None or f"/{unit}" in procfs.cgroup_of(process.pid)
    now = datetime.now(UTC)
    record = Record(
        id=flow_run_id,
        name="",
        flow_name="",
        nonce="",
        step=Step.RUNNING,
        boot_id=procfs.boot_id(),
        due=now,
        claimed_at=now,
        launcher="scope" if is_in_scope else "process",
        handle=ProcessHandle(process, unit if is_in_scope else "").as_json(),
    )
    where = f"PID {process.pid}" if process else f"{unit}, without the process that started it"
    log.say(events.NO_RECORD, Subject(flow_run_id, "", ""), where=where)
    return record


def _shims_of(runs: Path) -> Mapping[str, ProcessIdentity]:
    """Return the shims whose files lie in a folder: each is the first process of a session, and this user's."""
    found = {}
    for pid in procfs.pids():
        base = _base_of_shim(pid)
        if base is None or base.parent != runs or not _ID.fullmatch(base.name):
            continue
        identity = procfs.identity_of(pid)
        if identity and _leads_session(pid) and procfs.owner_of(pid) == os.geteuid():
            found[base.name] = identity
    return found


def _base_of_shim(pid: int) -> Path | None:
    """Given a process, return the path of the files of the flow run whose shim it is, None where it is none."""
    words = procfs.command_of(pid, _MOST_BYTES)
    return Path(words[2]) if len(words) > 2 and words[1].endswith(_SHIM) else None


def _leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False


def _leftovers_in(slice_name: str, root: Path) -> Iterator[str]:
    """Return the flow runs in whose scopes something lives and no shim; a slice may be in the user's own manager."""
    uid = os.geteuid()
    own = Path(f"user.slice/user-{uid}.slice/user@{uid}.service")
    for base in (root, root / own, root / "unified", root / "unified" / own) if slice_name else ():
        for folder in (base / "flowruns.slice" / slice_name).glob("flow-run-*.scope"):
            flow_run_id = flow_run_of(folder.name)
            if _ID.fullmatch(flow_run_id) and _is_left(folder):
                yield flow_run_id


def _is_left(scope: Path) -> bool:
    try:
        pids = [int(line) for line in (scope / "cgroup.procs").read_text().split()]
    except (OSError, ValueError):
        return False
    return bool(pids) and not any(_base_of_shim(pid) for pid in pids)
