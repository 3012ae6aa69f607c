"""The flow runs of this host: systemd's scopes, joined with what the agents remember and say where that can be read."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from local_agent.errors import ExhaustedError, ManagerUnreachableError
from local_agent.host.reading.agents import ask_agents
from local_agent.host.reading.records import records_of
from local_agent.host.reading.scopes import read_scopes, scan_scopes
from local_agent.host.table import printable
from local_agent.launchers.registry import cgroup_of, seems_alive
from local_agent.linux import cgroup
from local_agent.linux.cgroup import Figures
from local_agent.model import Step
from local_agent.units.names import scope_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from local_agent.host.reading.agents import StateFolder
    from local_agent.host.reading.bus import UnitReader
    from local_agent.host.reading.scopes import Scope
    from local_agent.model import Record
    from local_agent.report import RunReport

    Managers = Mapping[str, Callable[[], AbstractContextManager[UnitReader]]]

_NOTHING = Figures()
_STATES = {"active": "running", "deactivating": "stopping", "failed": "failed"}


@dataclass(frozen=True, slots=True)
class Run:
    """A flow run of this host.

    `state` is how it stands here: running, frozen, stopping, failed (its scope), claiming, reporting (its end is known
    and the API is yet to be told), ended. `api_state` is what the API said last, "" where this user cannot know.
    `manager` is the one whose scope it is: "system", "user", or "" for a plain process. The last four are of a run
    that has ended, as its agent told: a sentence, and the words of `model.Cause` and `model.Outcome`.
    """

    id: str
    name: str
    flow_name: str
    instance: str
    state: str
    api_state: str = ""
    manager: str = ""
    unit: str = ""
    result: str = ""
    since: datetime | None = None
    folder: Path | None = None
    figures: Figures = _NOTHING
    how: str = ""
    cause: str = ""
    exit_code: int | None = None
    outcome: str = ""

    @property
    def label(self) -> str:
        """Name it for people."""
        return f"{printable(self.name) or 'flow run'} ({self.id[:8]})"


@dataclass(frozen=True, slots=True)
class Overview:
    """What was found, and a sentence for each thing that could not be looked at."""

    runs: tuple[Run, ...]
    problems: tuple[str, ...] = ()


def find_runs(managers: Managers, folders: Sequence[StateFolder], root: Path = cgroup.ROOT) -> Overview:
    """Return the flow runs that are on this host now, ordered by instance and age."""
    runs: dict[str, Run] = {}
    problems: list[str] = []
    for name, open_reader in managers.items():
        scopes, problem = _scopes_of(name, open_reader, root)
        runs |= {scope.flow_run_id: _from_scope(scope, name) for scope in scopes}
        problems += [problem] if problem else []
    for folder in folders:
        problems += _add_records(runs, folder, root)
    answers = ask_agents(folders)
    for folder in folders:
        if met := answers.get(folder.path):
            _add_words(runs, folder.instance, met.report.runs)
    return Overview(_ordered(runs.values()), tuple(problems))


def with_figures(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Return the runs with what each uses now."""
    return tuple(_measured(run) for run in runs)


def _scopes_of(
    name: str, open_reader: Callable[[], AbstractContextManager[UnitReader]], root: Path
) -> tuple[list[Scope], str]:
    """Return a manager's scopes; where it does not answer, what the system's cgroups show, and a sentence about it."""
    try:
        with open_reader() as reader:
            return read_scopes(reader, root), ""
    except ManagerUnreachableError as error:
        if name != "system":
            return [], error.message
        return scan_scopes(root), f"{error.message}; names and times are missing"


def _from_scope(scope: Scope, manager: str) -> Run:
    return Run(
        id=scope.flow_run_id,
        name=scope.name,
        flow_name=scope.flow_name,
        instance=scope.instance,
        state=_STATES.get(scope.active_state, scope.active_state),
        manager=manager,
        unit=scope.unit,
        result=scope.result,
        since=scope.since,
        folder=scope.folder,
    )


def _measured(run: Run) -> Run:
    if run.folder is None:
        return run
    figures = cgroup.read_figures(run.folder)
    return replace(run, figures=figures, state="frozen" if figures.is_frozen else run.state)


def _add_records(runs: dict[str, Run], folder: StateFolder, root: Path) -> Sequence[str]:
    """Records know the names for certain, and runs that have no scope. Return what is wrong with some."""
    remembered = records_of(folder)
    for record in remembered.records:
        known = runs.get(record.id)
        if known is None:
            runs[record.id] = _from_record(record, folder, root)
        elif known.instance == folder.instance:  # of another's run it has nothing to say
            runs[record.id] = replace(known, name=record.name, flow_name=record.flow_name)
    return remembered.problems


def _from_record(record: Record, folder: StateFolder, root: Path) -> Run:
    state = _state_of(record)
    return Run(
        id=record.id,
        name=record.name,
        flow_name=record.flow_name,
        instance=folder.instance,
        state=state,
        since=record.claimed_at,
        folder=_scope_elsewhere(record, root) if state == "running" else None,
    )


def _scope_elsewhere(record: Record, root: Path) -> Path | None:
    """Return the cgroup of a run whose scope is in a manager that was not asked: another user's own. None without."""
    with contextlib.suppress(ExhaustedError):
        place = cgroup_of(record)
        if place.endswith(f"/{scope_of(record.id)}"):
            return root / place.removeprefix("/")
    return None


def _state_of(record: Record) -> str:
    if record.step is Step.CLAIMING:
        return "claiming"
    if record.step is Step.ENDED:
        return "reporting"
    return "running" if seems_alive(record) else "ended"


def _add_words(runs: dict[str, Run], instance: str, told: Iterable[RunReport]) -> None:
    for one in told:
        if one.id in runs and runs[one.id].instance == instance:
            runs[one.id] = replace(runs[one.id], name=one.name, flow_name=one.flow_name, api_state=one.api_state)


def _ordered(runs: Iterable[Run]) -> tuple[Run, ...]:
    return tuple(sorted(runs, key=lambda run: (run.instance, run.since.timestamp() if run.since else 0.0, run.id)))
