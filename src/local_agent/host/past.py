"""Flow runs that have ended, as the agents' events in the journal tell of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local_agent import events
from local_agent.host.journal import text_of, uid_matches
from local_agent.host.runs import Run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from local_agent.host.journal import Journal

_ENDS = (events.ENDED, events.CRASHED, events.LAUNCH_FAILED)
_FIELDS = ("MESSAGE", "FLOW_RUN_ID", "FLOW_RUN_NAME", "FLOW_NAME", "LOCAL_AGENT")
_HOW = re.compile(r" (?:ended|could not be started): (.*)", re.DOTALL)
_PART_OF_ID = re.compile(r"[0-9a-f-]+")
_MOST_EVENTS = 200
_MOST_CANDIDATES = 10
_USEC = 1_000_000


class Past:
    """The flow runs that the journal remembers. `uids` are the users whose agents are believed."""

    def __init__(self, journal: Journal, uids: Collection[int]) -> None:
        self._journal = journal
        self._users = uid_matches(uids)

    def ended(self, most: int, *, instance: str | None = None, known: Collection[str] = ()) -> list[Run]:
        """Return the last runs that ended, the oldest first, less those that are known (they run again)."""
        agent = (f"LOCAL_AGENT={instance}",) if instance else ()
        groups = [(f"MESSAGE_ID={event.message_id}", *agent, *self._users) for event in _ENDS]
        entries = self._journal.entries(groups, [f"--lines={most}"], _FIELDS)
        runs = {text_of(entry, "FLOW_RUN_ID"): _ended(entry) for entry in entries}
        return [run for run_id, run in runs.items() if run_id and run_id not in known]

    def search(self, word: str) -> list[Run]:
        """Return the runs whose id begins with a word, or whose name it is."""
        groups = [(f"FLOW_RUN_NAME={word}", *self._users)]
        groups += [(f"FLOW_RUN_ID={run_id}", *self._users) for run_id in self._ids_like(word)]
        return self._described(groups)

    def _ids_like(self, word: str) -> Sequence[str]:
        if not _PART_OF_ID.fullmatch(word):
            return ()
        return [value for value in self._journal.values("FLOW_RUN_ID") if value.startswith(word)][:_MOST_CANDIDATES]

    def _described(self, groups: Iterable[tuple[str, ...]]) -> list[Run]:
        entries = self._journal.entries(groups, ["--reverse", f"--lines={_MOST_EVENTS}"], _FIELDS)
        found: dict[str, Run] = {}
        for entry in entries:
            run = _ended(entry)
            if run.name:
                found.setdefault(run.id, run)
        return list(found.values())


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
