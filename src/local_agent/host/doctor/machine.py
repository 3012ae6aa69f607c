"""The machine: systemd, cgroups, pressure, the journal, the disks."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import LocalAgentError
from local_agent.host.doctor.check import Finding, failure, ok, warning
from local_agent.host.reading.gaps import gaps_of_flow_runs
from local_agent.linux import cgroup
from local_agent.wording import in_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from local_agent.host.reading.journal import Journal

_OLDEST_SYSTEMD = 252
_CONTROLLERS = ("cpu", "io", "memory", "pids")
_KERNEL_LINE = "on the kernel's command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub and a reboot)"
# the last file that sets a value wins (journald.conf(5))
_DROP_INS = "/etc/systemd/journald.conf.d"
_LIFT = (
    f"mkdir -p {_DROP_INS} && printf '[Journal]\\nRateLimitBurst=0\\n' >{_DROP_INS}/zz-local-agent-limit.conf"
    " && systemctl restart systemd-journald"
)
_KEEP = (
    f"mkdir -p {_DROP_INS} && printf '[Journal]\\nStorage=persistent\\n' >{_DROP_INS}/zz-local-agent-storage.conf"
    " && systemctl restart systemd-journald && journalctl --flush"
)
_AS_ROOT = "run it as root: local-agent doctor"
_FEW_BYTES, _LITTLE_SHARE, _LOW_SHARE = 100 << 20, 0.01, 0.05


def check_systemd(version: str) -> Finding:
    """Given the manager's version, "" where systemd does not run this machine."""
    number = re.match(r"\d+", version)
    if not number:
        fix = "nothing, in a container; elsewhere boot with systemd"
        return warning("systemd", "it does not run this machine: flow runs are plain processes, without limits", fix)
    if int(number[0]) < _OLDEST_SYSTEMD:
        return warning("systemd", f"{version} is older than what was tried", "upgrade to Debian 12 or later")
    return ok("systemd", version)


def check_cgroups(root: Path = cgroup.ROOT) -> Finding:
    """Version 2, with the controllers that limits need."""
    try:
        there = (root / "cgroup.controllers").read_text().split()
    except OSError:
        return failure("cgroups", "they are not of version 2", f"systemd.unified_cgroup_hierarchy=1 {_KERNEL_LINE}")
    missing = [name for name in _CONTROLLERS if name not in there]
    if missing:
        fix = f"cgroup_enable=memory {_KERNEL_LINE}; in a container, have its runtime delegate them"
        return warning("cgroups", f"version 2, without {', '.join(missing)}: limits of these do nothing", fix)
    return ok("cgroups", f"version 2, with {', '.join(_CONTROLLERS)}")


def check_pressure(folder: Path = Path("/proc/pressure")) -> Finding:
    """Pressure stall information, by which intake stops before the machine is overloaded."""
    try:
        evidence = "" if (folder / "memory").read_text() else "the kernel tells nothing"
    except OSError as error:
        evidence = str(error.strerror)
    if evidence:
        return warning("pressure", f"it is not measured here: {evidence}", f"psi=1 {_KERNEL_LINE}")
    return ok("pressure", "measured for cpu, memory and io")


def check_journal(
    machine_id: str, kept: Path = Path("/var/log/journal"), passing: Path = Path("/run/log/journal")
) -> Finding:
    """Where the journal lies: logs of a run that a crash of the machine ended are wanted after the reboot."""
    if (kept / machine_id / "system.journal").exists():
        return ok("journal", f"kept in {kept}")
    if (passing / machine_id / "system.journal").exists():
        return warning("journal", f"it is in {passing} and gone at the next boot", _KEEP)
    return failure("journal", "there is none: output of flow runs is lost", _KEEP)


def check_dropped(
    journal: Journal, uids: Collection[int] = (), limited: Sequence[str] = (), *, limit_is_off: bool = False
) -> Finding:
    """Whether journald threw lines of flow runs away, as far as it tells, or would do so for the units in `limited`.

    `uids` are the users of the agents.
    """
    if limit_is_off:
        return ok("rate limit", "journald takes every line: its limit is lifted for all units")
    if not journal.can_be_read():
        return warning("rate limit", "not looked at: this user may not read the journal", _AS_ROOT)
    try:
        gaps = gaps_of_flow_runs(journal, uids)
    except LocalAgentError as error:
        return failure("rate limit", f"the journal cannot be read: {error.message}", error.hint)
    if gaps:
        lost, units = sum(gap.count for gap in gaps), len({gap.unit for gap in gaps})
        return warning("rate limit", f"journald threw {lost} lines of {units} units away in this boot", _LIFT)
    if limited:
        words = f"{limited[0]} may write some 10,000 lines in 30 s; journald throws away what is more, often silently"
        return warning("rate limit", words, _LIFT)
    return ok("rate limit", "journald has told of no line of a flow run that it threw away in this boot")


def check_disks(folders: Sequence[Path], statvfs: Callable[[Path], os.statvfs_result] = os.statvfs) -> list[Finding]:
    """Room and inodes where the agents and the journal write; each file system is looked at once."""
    findings, seen = [], set()
    for folder in folders:
        try:
            device, status = folder.stat().st_dev, statvfs(folder)
        except OSError:
            continue
        if device not in seen:
            seen.add(device)
            findings.append(_check_disk(folder, status))
    return findings


def _check_disk(folder: Path, status: os.statvfs_result) -> Finding:
    free_bytes = status.f_bavail * status.f_frsize
    room = status.f_bavail / status.f_blocks if status.f_blocks else 1.0
    inodes = status.f_favail / status.f_files if status.f_files else 1.0
    if free_bytes < _FEW_BYTES or room < _LITTLE_SHARE:
        return failure("disk", f"{in_bytes(free_bytes)} free at {folder}: no flow run is claimed", _fix_disk(folder))
    if inodes < _LITTLE_SHARE:
        return failure(
            "disk",
            f"{status.f_favail} inodes free at {folder}",
            f"du --inodes -x {_mount_of(folder)} | sort -n | tail -n 20",
        )
    if room < _LOW_SHARE or inodes < _LOW_SHARE:
        return warning("disk", f"{room:.0%} of room, {inodes:.0%} of inodes free at {folder}", _fix_disk(folder))
    return ok("disk", f"{in_bytes(free_bytes)} free at {folder}")


def _fix_disk(folder: Path) -> str:
    return f"journalctl --vacuum-size=500M; apt-get clean; du -xah {_mount_of(folder)} | sort -h | tail -n 20"


def _mount_of(folder: Path) -> Path:
    """Return where the file system of a folder is mounted: what fills it may lie beside the folder."""
    device = folder.stat().st_dev
    return next((path for path in reversed((folder, *folder.parents)) if path.stat().st_dev == device), folder)
