"""The host as this user sees it: which managers, which agents, which journal. Built once per command, from outside."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import NotFoundError, UnavailableError
from local_agent.host.find import find_run
from local_agent.host.reading.agents import SERVICES_STATE, StateFolder, state_folders
from local_agent.host.reading.bus import BusReader, buses
from local_agent.host.reading.found import found_folders
from local_agent.host.reading.gaps import gaps_of_flow_runs
from local_agent.host.reading.instances import NOTHING_KNOWN, Instance, enabled_names, find_instances
from local_agent.host.reading.journal import Journal
from local_agent.host.reading.past import Past
from local_agent.host.reading.runs import Overview, Run, find_runs, with_figures

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from local_agent.host.reading.runs import Managers

MAY_NOT_READ = "this user may not read the journal of others; root and the group systemd-journal may"


@dataclass(frozen=True)
class Host:
    """Everything that commands look at."""

    uid: int
    managers: Managers
    folders: tuple[StateFolder, ...]
    journal: Journal = field(default_factory=Journal)
    known: Mapping[str, Collection[str]] = field(default_factory=lambda: NOTHING_KNOWN)

    @property
    def past(self) -> Past:
        """The flow runs that ended. The user's own agents are believed, and those that have a state folder here."""
        others = {(folder.uid, folder.name): folder.instance for folder in self.folders if folder.is_anybodys}
        owners = {folder.instance: folder.uid for folder in self.folders}
        return Past(self.journal, self.uids_of(None), others, owners, self.uid, self._packaged)

    @property
    def _packaged(self) -> set[str]:
        """The instances of the packaged service: those that have a state folder, or start at boot."""
        remembered = {folder.instance for folder in self.folders if folder.path.parent == SERVICES_STATE}
        return remembered | set(self.known.get("system", ()))

    def uids_of(self, instance: str | None) -> set[int]:
        """Return the users whose word about an instance's flow runs, or about all, is believed."""
        return {self.uid, *self.agent_uids(instance)}

    def agent_uids(self, instance: str | None) -> set[int]:
        """Return the users that an instance, or all of them, run as; one's own where none has a state folder here.

        Other users' agents that are no packaged instances are asked for by name or not at all.
        """
        owners = {folder.uid for folder in self.folders if folder.instance == instance}
        return owners or {folder.uid for folder in self.folders if not folder.is_anybodys} or {self.uid}

    @staticmethod
    def now() -> datetime:
        """Return the wall-clock time."""
        return datetime.now(UTC)

    def runs(self, instance: str | None = None) -> Overview:
        """Return the flow runs that are here now, perhaps of one instance only."""
        overview = find_runs(self.managers, self.folders)
        if instance is None:
            return overview
        return replace(overview, runs=tuple(run for run in overview.runs if run.instance == instance))

    def instances(self, name: str | None = None) -> tuple[list[Instance], list[str]]:
        """Return the instances, or one, and what could not be looked at. Raise NotFoundError where there is no such."""
        overview = self.runs()
        counts = Counter(run.instance for run in overview.runs)
        found, problems = find_instances(self.managers, self.folders, counts, self.known)
        chosen = [instance for instance in found if name in (None, instance.name)]
        if name is not None and not chosen:
            raise NotFoundError(
                f"no instance {name!r} is on this host", hint=f"systemctl enable --now local-agent@{name}"
            )
        return chosen, problems

    def check_instance(self, name: str) -> None:
        """Raise NotFoundError where there is no such instance: its empty list would mislead who mistypes a name."""
        if all(folder.instance != name for folder in self.folders):
            self.instances(name)

    def find(self, word: str, *, in_past: bool = False) -> Run:
        """Return the run that a word means. Raise NotFoundError."""
        return find_run(word, self.runs().runs, self.past.search if in_past else None)

    def overview(self, *, instance: str | None, ended: int) -> Overview:
        """Return the runs that are here, measured, after at most so many that ended.

        Raise NotFoundError where there is no such instance.
        """
        now = self.runs(instance)
        runs = with_figures(now.runs)
        past, unread = self._ended(ended, instance, {(run.id, run.instance) for run in runs}) if ended else ([], ())
        if instance is not None and not (past or runs or now.problems or unread):
            self.check_instance(instance)
        return Overview((*past, *runs), (*now.problems, *unread, *self._gaps()))

    def _gaps(self) -> tuple[str, ...]:
        """Return a sentence about lines that are not in the journal, as far as this user may know."""
        if not self.journal.can_be_read():
            return ()
        try:
            count = sum(gap.count for gap in gaps_of_flow_runs(self.journal, self.uids_of(None)))
        except UnavailableError:
            return ()  # said where the journal itself is wanted
        return (f"journald threw {count} lines away in this boot: local-agent logs RUN, local-agent doctor",) * bool(
            count
        )

    def _ended(
        self, most: int, instance: str | None, known: Collection[tuple[str, str]]
    ) -> tuple[list[Run], tuple[str, ...]]:
        """Return the runs that ended, and what could not be looked at for it."""
        unread = () if self.journal.can_be_read() else (f"{MAY_NOT_READ}: ended runs may be missing",)
        try:
            return self.past.ended(most, instance=instance, known=known), unread
        except UnavailableError as error:
            return [], (f"{error.message}: ended runs are missing",)


def this_host(environ: Mapping[str, str] | None = None) -> Host:
    """Return this host as this user sees it."""
    environ = os.environ if environ is None else environ
    uid = os.geteuid()
    managers = {name: partial(BusReader, address) for name, address in buses(uid, environ).items()}
    folders = tuple(found_folders(uid, state_folders(environ)))
    return Host(uid, managers, folders, known=_known(folders, environ))


def _known(folders: Sequence[StateFolder], environ: Mapping[str, str]) -> Mapping[str, Collection[str]]:
    """Return the instances that each manager may have, stopped or not."""
    settings = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "/") / ".config"
    remembered = {folder.instance for folder in folders if folder.path.parent == SERVICES_STATE}
    return {
        "system": enabled_names(Path("/etc/systemd/system")) | remembered,
        "user": enabled_names(Path(settings) / "systemd/user"),
    }
