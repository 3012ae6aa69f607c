"""Lines that journald threw away, as far as journald tells, and units of which it takes no more than so many.

Of a unit that writes more than some 10,000 lines in 30 s journald keeps no more, and it says how many it threw away
when that unit writes again, if ever. For scopes of the system's manager that limit is lifted (broker/line_limits.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_agent.host.reading.journal import text_of
from local_agent.units.names import flow_run_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from local_agent.host.reading.journal import Group, Journal
    from local_agent.host.reading.runs import Run

DROPPED = "a596d6fe7bfa4994828e72309e95d61e"  # SD_MESSAGE_JOURNAL_DROPPED (sd-messages(3))
# nobody but journald itself has this transport
ASKED: Group = (f"MESSAGE_ID={DROPPED}", "_TRANSPORT=driver")
FIELDS = ("MESSAGE", "MESSAGE_ID", "N_DROPPED", "_TRANSPORT")
_SCOPE = "flow-run-"
_LIFTED = "/run/systemd/units/log-rate-limit-interval:"


@dataclass(frozen=True, slots=True)
class Gap:
    """So many lines of a unit that are not in the journal."""

    unit: str
    count: int

    @property
    def in_words(self) -> str:
        """Say it as the text of a line."""
        whose = "this flow run" if flow_run_in(self.unit) else f"{self.unit}, perhaps of this flow run"
        return f"journald threw {self.count} lines of {whose} away, which came too fast"


def gap_of(entry: Mapping[str, Any]) -> Gap | None:
    """Return what an entry says of lines that were thrown away, None where it says nothing of that."""
    if text_of(entry, "MESSAGE_ID") != DROPPED or text_of(entry, "_TRANSPORT") != "driver":
        return None
    count = text_of(entry, "N_DROPPED")
    unit = text_of(entry, "MESSAGE").rpartition(" ")[2]
    return Gap(unit, int(count) if count.isdigit() else 0) if unit else None


def gaps_of_flow_runs(journal: Journal, uids: Collection[int]) -> list[Gap]:
    """Return what was thrown away in this boot of flow runs, or of the managers of users whose agents are here.

    Raise UnavailableError.
    """
    managers = {f"user@{uid}.service" for uid in uids}
    found = (gap_of(entry) for entry in journal.entries([ASKED], ["--boot"], FIELDS))
    return [gap for gap in found if gap is not None and (gap.unit.startswith(_SCOPE) or gap.unit in managers)]


def limit_is_off(root: Path = Path("/")) -> bool:
    """Tell whether journald's settings lift its limit for all units (journald.conf(5))."""
    folders = ("usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd")
    drop_ins = {path.name: path for folder in folders for path in (root / folder / "journald.conf.d").glob("*.conf")}
    values = {"RateLimitBurst": "", "RateLimitIntervalSec": ""}
    for path in (root / "etc/systemd/journald.conf", *(drop_ins[name] for name in sorted(drop_ins))):
        values |= _set_in(path, values)
    return any(re.fullmatch(r"0+[a-z]*", value) for value in values.values())


def _set_in(path: Path, names: Collection[str]) -> dict[str, str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip() in names}


def limited(runs: Iterable[Run], uid: int, lifted: str = _LIFTED) -> list[str]:
    """Return the units of which journald takes no more than so many lines, and in which flow runs are now."""
    units = {run.unit if run.manager == "system" else f"user@{uid}.service" for run in runs if run.unit and run.manager}
    return sorted(unit for unit in units if not _is_lifted(Path(f"{lifted}{unit}")))


def _is_lifted(link: Path) -> bool:
    try:
        return str(link.readlink()) == "0"
    except OSError:
        return False
