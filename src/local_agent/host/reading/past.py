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
from local_agent.linux.cgroup import Figures
from local_agent.units.names import flow_run_in, is_flow_run_id, service_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from local_agent.host.reading.journal import Group, Journal

_ENDS = (events.ENDED, events.CRASHED, events.LAUNCH_FAILED)
_SAID = ("how", "told", "reason", "cause", "exit_code", "outcome")
_COUNTED = ("memory_peak_bytes", "read_bytes", "written_bytes")
_FIELDS = (
    *("_UID", "_SYSTEMD_UNIT", "MESSAGE", "MESSAGE_ID", "FLOW_RUN_ID", "FLOW_RUN_NAME", "FLOW_NAME", "LOCAL_AGENT"),
    *map(events.field_of, (*_SAID, *_COUNTED, "cpu_seconds")),
)
_ENDS_BY_ID = frozenset(event.message_id for event in _ENDS)
_MAX_DIGITS = 18
_PART_OF_ID = re.compile(r"[0-9a-f-]+")
_MAX_EVENTS = 200
_MAX_CANDIDATES = 10
_MAX_VALUES_CHARACTERS = 8 << 20
_USEC = 1_000_000
NOBODY_ELSE: Mapping[tuple[int, str], str] = MappingProxyType({})
NO_OWNERS: Mapping[str, int] = MappingProxyType({})


class Past:
    """The flow runs that the journal remembers. `uids` are the users whose agents are believed.

    A flow run has its agent's user, and may write whatever an agent does; but journald itself says which unit a process
    is in. So it is asked first what the services of `packaged` instances said, and root and `own_uid`, whoever else
    writes however much. What others said is asked for apart, and hides and replaces nothing of that: of `owners`, the
    users of instances, each is believed about its own, for journald may miss the unit of a process that has just ended.
    About an instance that nobody owns any more only its service is believed.

    `others` are agents of any other users, (uid, name) -> what it is called here: each is believed about what it calls
    its own.
    """

    def __init__(
        self,
        journal: Journal,
        uids: Collection[int],
        others: Mapping[tuple[int, str], str] = NOBODY_ELSE,
        owners: Mapping[str, int] = NO_OWNERS,
        own_uid: int = 0,
        packaged: Collection[str] = (),
    ) -> None:
        self._journal = journal
        self._others = others
        self._owners = owners
        self._always = {0, own_uid}
        self._believed = uid_matches(uids)
        self._first = [tuple(f"_UID={uid}" for uid in sorted(self._always))]
        self._first += [tuple(f"_SYSTEMD_UNIT={service_of(name)}" for name in sorted(packaged))] if packaged else []
        self._asked = tuple(f"_UID={uid}" for uid in sorted({uid for uid, _ in others} - {0, *uids}))

    def ended(self, most: int, *, instance: str | None = None, known: Collection[tuple[str, str]] = ()) -> list[Run]:
        """Return the last runs that ended, the oldest first, less those known by id and instance (they run again)."""
        agent = (f"LOCAL_AGENT={instance.rpartition('/')[2]}",) if instance else ()
        groups = [(f"MESSAGE_ID={event.message_id}", *agent) for event in _ENDS]
        certain, others = [
            {(run.id, run.instance): run for run in runs} for runs in self._read(groups, [f"--lines={most}"])
        ]
        kept = {key: run for key, run in certain.items() if key not in known and instance in (None, run.instance)}
        ids = {run_id for run_id, _ in (*certain, *known)}
        more = [run for key, run in others.items() if key[0] not in ids and instance in (None, run.instance)]
        room = max(0, most - len(kept))
        return sorted([*kept.values(), *more[max(0, len(more) - room) :]], key=_time_of)[-most:]

    def search(self, word: str) -> list[Run]:
        """Return the runs whose id begins with a word, or whose name it is."""
        groups = [(f"FLOW_RUN_NAME={word}",)]
        groups += [(f"FLOW_RUN_ID={run_id}",) for run_id in self._ids_like(word)]
        found: dict[str, Run] = {}
        for runs in self._read(groups, ["--reverse", f"--lines={_MAX_EVENTS}"]):
            for run in runs:
                if run.name:
                    found.setdefault(run.id, run)
        return list(found.values())

    def _ids_like(self, word: str) -> Sequence[str]:
        """Return ids that begin with a word. Anybody may write any number of them, and so hide none that is certain."""
        if not _PART_OF_ID.fullmatch(word) or is_flow_run_id(word):
            return [word] if is_flow_run_id(word) else ()
        values = self._journal.values("FLOW_RUN_ID", _MAX_VALUES_CHARACTERS)
        fit = [value for value in values or () if value.startswith(word) and is_flow_run_id(value)]
        if values is not None and len(fit) <= _MAX_CANDIDATES:
            return fit
        groups = [(f"MESSAGE_ID={event.message_id}",) for event in (events.LAUNCHED, *_ENDS)]
        certain, _ = self._read(groups, ["--reverse"])
        return [run_id for run_id in dict.fromkeys(run.id for run in certain) if run_id.startswith(word)]

    def _read(self, groups: Sequence[Group], options: Sequence[str]) -> tuple[Iterator[Run], Iterator[Run]]:
        """Return what those say of whom it is certain that they are agents, and what others do who may be."""
        return self._certain(groups, options), self._uncertain(groups, options)

    def _certain(self, groups: Sequence[Group], options: Sequence[str]) -> Iterator[Run]:
        asked = [(*group, *who) for group in groups for who in self._first]
        for entry in self._journal.entries(asked, options, _FIELDS):
            run = _ended(entry)
            if run.id and (_uid_of(entry) in self._always or _is_of_its_service(entry, run.instance)):
                yield run

    def _uncertain(self, groups: Sequence[Group], options: Sequence[str]) -> Iterator[Run]:
        for entry in self._journal.entries([(*group, *self._believed) for group in groups], options, _FIELDS):
            run = _ended(entry)
            if run.id and self._may_tell(entry, run.instance):
                yield run
        if self._asked:
            for entry in self._journal.entries([(*group, *self._asked) for group in groups], options, _FIELDS):
                run = _ended(entry)
                label = self._others.get((_uid_of(entry), run.instance))
                if label and is_flow_run_id(run.id):
                    yield replace(run, instance=label)

    def _may_tell(self, entry: Mapping[str, Any], instance: str) -> bool:
        if flow_run_in(text_of(entry, "_SYSTEMD_UNIT")):
            return False
        return self._owners.get(instance) == _uid_of(entry) or _is_of_its_service(entry, instance)


def _is_of_its_service(entry: Mapping[str, Any], instance: str) -> bool:
    return bool(instance) and text_of(entry, "_SYSTEMD_UNIT") == service_of(instance)


def _uid_of(entry: Mapping[str, Any]) -> int:
    """Return whose entry it is, -1 where journald does not say so."""
    uid = text_of(entry, "_UID")
    return int(uid) if uid.isdecimal() else -1


def _time_of(run: Run) -> float:
    return run.since.timestamp() if run.since else 0.0


def _ended(entry: Mapping[str, Any]) -> Run:
    is_end = text_of(entry, "MESSAGE_ID") in _ENDS_BY_ID
    return Run(
        id=text_of(entry, "FLOW_RUN_ID"),
        name=text_of(entry, "FLOW_RUN_NAME"),
        flow_name=text_of(entry, "FLOW_NAME"),
        instance=text_of(entry, "LOCAL_AGENT"),
        state="ended",
        since=datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / _USEC, UTC),
        figures=_figures(entry) if is_end else Figures(),
        how=_how(entry) if is_end else "",
        cause=_said(entry, "cause") if is_end else "",
        exit_code=_count(entry, "exit_code") if is_end else None,
        outcome=_said(entry, "outcome") if is_end else "",
    )


def _how(entry: Mapping[str, Any]) -> str:
    """Return how it ended, as a sentence. An agent of 0.1 wrote it into its message and nowhere else."""
    how = _said(entry, "how") or _said(entry, "reason")
    told = _said(entry, "told")
    return f"{how}; {told}" if how and told else how or text_of(entry, "MESSAGE")


def _figures(entry: Mapping[str, Any]) -> Figures:
    peak, read, written = (_count(entry, name) for name in _COUNTED)
    return Figures(
        cpu_seconds=_seconds(entry, "cpu_seconds"), memory_peak_bytes=peak, read_bytes=read, written_bytes=written
    )


def _said(entry: Mapping[str, Any], name: str) -> str:
    return text_of(entry, events.field_of(name))


def _count(entry: Mapping[str, Any], name: str) -> int | None:
    """Return a count, None for none: some other user may have written this entry."""
    text = _said(entry, name)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None


def _seconds(entry: Mapping[str, Any], name: str) -> float | None:
    whole, _, rest = _said(entry, name).partition(".")
    is_number = whole.isascii() and whole.isdecimal() and len(whole) <= _MAX_DIGITS and rest.isascii()
    return float(f"{whole}.{rest}") if is_number and rest.isdecimal() else None
