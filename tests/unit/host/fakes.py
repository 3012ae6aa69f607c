"""Stand-ins for systemd and the journal: what they were asked is counted, what they answer was given."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local_agent.host.reading.bus import Unit, Wanted
from local_agent.host.reading.journal import Journal

USEC = 1_000_000


@dataclass
class FakeReader:
    """A UnitReader that holds units and their properties."""

    units: list[Unit] = field(default_factory=list)
    properties: dict[tuple[str, str], Any] = field(default_factory=dict)
    rounds: int = 0
    asked: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        return None

    def add(self, name: str, description: str = "", active: str = "active", **properties: object) -> None:
        """Load a unit."""
        self.units.append(Unit(name, description, "loaded", active, "running", f"/unit/{name}"))
        self.properties |= {(f"/unit/{name}", key): value for key, value in properties.items()}

    def list_units(self, patterns: Sequence[str]) -> list[Unit]:
        """Return the units whose names fit."""
        self.rounds += 1
        return [unit for unit in self.units if any(fnmatchcase(unit.name, pattern) for pattern in patterns)]

    def list_named(self, names: Sequence[str]) -> list[Unit]:
        """Return the units of these names; any instance of a template can be loaded."""
        self.rounds += bool(names)
        there = [unit for unit in self.units if unit.name in names]
        missing = set(names) - {unit.name for unit in there}
        return there + [Unit(name, "", "loaded", "inactive", "dead", f"/unit/{name}") for name in sorted(missing)]

    def read(self, wanted: Sequence[Wanted]) -> list[Any]:
        """Return properties."""
        self.rounds += 1
        self.asked += len(wanted)
        return [self.properties.get((one.path, one.name)) for one in wanted]


def run_id(number: int) -> str:
    """Return a flow run's id."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def make_cgroup(folder: Path, **files: str) -> None:
    """Make a cgroup's folder; the first underscore of a file's name stands for its dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


def add_scope(
    reader: FakeReader, root: Path, number: int, instance: str = "prod1", description: str = "", **files: str
) -> str:
    """Load a flow run's scope, with a cgroup, and return the flow run's id."""
    name = f"flow-run-{run_id(number)}.scope"
    reader.add(name, description or f"Flow run run-{number} of etl", ActiveEnterTimestamp=(1000 + number) * USEC)
    make_cgroup(root / "flowruns.slice" / f"flowruns-{instance}.slice" / name, **files)
    return run_id(number)


def flowruns_slice(reader: FakeReader) -> None:
    """Load the slice of all flow runs."""
    reader.add("flowruns.slice", ControlGroup="/flowruns.slice")


def fake_journal(folder: Path, entries: Sequence[Mapping[str, Any]], values: Sequence[str] = ()) -> Journal:
    """Return a journal that holds these entries, whatever is asked for; each question is a line of `folder`/asked."""
    (folder / "entries").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    (folder / "values").write_text("".join(f"{value}\n" for value in values))
    script = f"""
        echo "$@" >>{shlex.quote(str(folder / "asked"))}
        case "$*" in *--field=*) exec cat {shlex.quote(str(folder / "values"))} ;; esac
        exec cat {shlex.quote(str(folder / "entries"))}
    """
    readable = folder / "machine" / "system.journal"
    readable.parent.mkdir(exist_ok=True)
    readable.touch()
    return Journal(("sh", "-c", script, "journalctl"), (folder,))


def asked_of(folder: Path) -> list[str]:
    """Return what the fake journal was asked."""
    path = folder / "asked"
    return path.read_text().splitlines() if path.exists() else []
