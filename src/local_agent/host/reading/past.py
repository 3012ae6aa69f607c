"""Flow runs that have ended, as the agents' events in the journal tell of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from local_agent import events
from local_agent.host.reading.journal import text_of, uid_matches
from local_agent.host.reading.runs import Run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from local_agent.host.reading.journal import Journal

_ENDS = (events.ENDED, events.CRASHED, events.LAUNCH_FAILED)
_FIELDS = ("_UID", "MESSAGE", "FLOW_RUN_ID", "FLOW_RUN_NAME", "FLOW_NAME", "LOCAL_AGENT")
_HOW = re.compile(r" (?:ended|could not be started): (.*)", re.DOTALL)
_PART_OF_ID = re.compile(r"[0-9a-f-]+")
_MOST_EVENTS = 200
_MOST_CANDIDATES = 10
_USEC = 1_000_000
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOBODY_ELSE: Mapping[tuple[int, str], str] = MappingProxyType({})
NO_OWNERS: Mapping[str, int] = MappingProxyType({})


class Past:
    """The flow runs that the journal remembers. `uids` are the users whose agents are believed.

    `others` are agents of any other users, (uid, name) -> what it is called here: each is believed about what it calls
    its own, and nothing that it says hides a flow run of the others. `owners` are the users of instances: about such a
    one nobody but its own user, root and `own_uid` is believed.
    """

    def __init__(
        self,
        journal: Journal,
        uids: Collection[int],
        others: Mapping[tuple[int, str], str] = NOBODY_ELSE,
        owners: Mapping[str, int] = NO_OWNERS,
        own_uid: int = 0,
    ) -> None:
        self._journal = journal
        self._others = others
        self._owners = owners
        self._always = {0, own_uid}
        self._believed = uid_matches(uids)
        self._asked = tuple(f"_UID={uid}" for uid in sorted({uid for uid, _ in others} - {0, *uids}))

    def ended(self, most: int, *, instance: str | None = None, known: Collection[tuple[str, str]] = ()) -> list[Run]:
        """Return the last runs that ended, the oldest first, less those known by id and instance (they run again)."""
        agent = (f"LOCAL_AGENT={instance.rpartition('/')[2]}",) if instance else ()
        groups = [(f"MESSAGE_ID={event.message_id}", *agent) for event in _ENDS]
        runs = {(run.id, run.instance): run for run in self._read(groups, [f"--lines={most}"])}
        wanted = [run for key, run in runs.items() if key not in known and instance in (None, run.instance)]
        return sorted(wanted, key=_time_of)[-most:] if self._asked else wanted

    def search(self, word: str) -> list[Run]:
        """Return the runs whose id begins with a word, or whose name it is."""
        groups = [(f"FLOW_RUN_NAME={word}",)]
        groups += [(f"FLOW_RUN_ID={run_id}",) for run_id in self._ids_like(word)]
        found: dict[str, Run] = {}
        for run in self._read(groups, ["--reverse", f"--lines={_MOST_EVENTS}"]):
            if run.name:
                found.setdefault(run.id, run)
        return list(found.values())

    def _ids_like(self, word: str) -> Sequence[str]:
        if not _PART_OF_ID.fullmatch(word):
            return ()
        return [value for value in self._journal.values("FLOW_RUN_ID") if value.startswith(word)][:_MOST_CANDIDATES]

    def _read(self, groups: Sequence[tuple[str, ...]], options: Sequence[str]) -> Iterator[Run]:
        """Return what those say who are believed, then what others say of their own: apart, so that no flood of these
        pushes those out."""
        for entry in self._journal.entries([(*group, *self._believed) for group in groups], options, _FIELDS):
            run = _ended(entry)
            if run.id and self._may_tell(entry, run.instance):
                yield run
        if self._asked:
            for entry in self._journal.entries([(*group, *self._asked) for group in groups], options, _FIELDS):
                run, uid = _ended(entry), text_of(entry, "_UID")
                label = self._others.get((int(uid), run.instance)) if uid.isdecimal() else None
                if label and _ID.fullmatch(run.id):
                    yield replace(run, instance=label)

    def _may_tell(self, entry: Mapping[str, Any], instance: str) -> bool:
        owner, uid = self._owners.get(instance), text_of(entry, "_UID")
        return owner is None or (uid.isdecimal() and int(uid) in {owner, *self._always})


def _time_of(run: Run) -> float:
    return run.since.timestamp() if run.since else 0.0


def _ended(entry: Mapping[str, Any]) -> Run:
    how = _HOW.search(text_of(entry, "MESSAGE"))
    return Run(
        id=text_of(entry, "FLOW_RUN_ID"),
        name=text_of(entry, "FLOW_RUN_NAME"),
        flow_name=text_of(entry, "FLOW_NAME"),
        instance=text_of(entry, "LOCAL_AGENT"),
        state="ended",
        since=datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / _USEC, UTC),
        how=how.group(1) if how else "",
    )
