"""Flow runs that live on this machine without a record: their shims, and what is left in their scopes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.launchers import Lost
from local_agent.launchers.handle import ProcessHandle
from local_agent.linux import cgroup, procfs
from local_agent.units.names import flow_run_of, scope_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from local_agent.model import ProcessIdentity

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHIM = "/shim.sh"
_MAX_BYTES = 65536


def shims_without_record(runs: Path, known: AbstractSet[str]) -> Sequence[Lost]:
    """Return the flow runs that are not known and whose shims have their files in a folder."""
    shims = _shims_of(runs)
    return tuple(_lost_shim(run_id, shims[run_id]) for run_id in sorted(shims.keys() - known))


def leftovers_without_record(slice_name: str, known: AbstractSet[str], root: Path = cgroup.ROOT) -> Sequence[Lost]:
    """Return the flow runs that are not known and that left something in a scope of a slice, and no shim."""
    ids = set(_leftovers_in(slice_name, root)) - known
    return tuple(
        Lost(
            run_id,
            "scope",
            ProcessHandle(unit=scope_of(run_id)).as_json(),
            f"{scope_of(run_id)}, without the process that started it",
        )
        for run_id in sorted(ids)
    )


def _lost_shim(flow_run_id: str, process: ProcessIdentity) -> Lost:
    unit = scope_of(flow_run_id)
    is_in_scope = f"/{unit}" in procfs.cgroup_of(process.pid)
    handle = ProcessHandle(process, unit if is_in_scope else "")
    return Lost(flow_run_id, "scope" if is_in_scope else "process", handle.as_json(), f"PID {process.pid}")


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
    words = procfs.command_of(pid, _MAX_BYTES)
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
    for base in (root, root / own, root / "unified", root / "unified" / own):
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
