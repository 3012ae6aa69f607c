"""`local-agent doctor`: every check in order, and what they found as lines and as JSON."""

from __future__ import annotations

import asyncio
import os
import socket
import textwrap
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_agent import __version__
from local_agent.backends import ApiView
from local_agent.dbus import SYSTEM_BUS
from local_agent.errors import ManagerUnreachableError, UnavailableError
from local_agent.host.doctor import machine, services
from local_agent.host.doctor.canary import check_canary, not_tried
from local_agent.host.doctor.check import Finding, Verdict, failure, ok
from local_agent.host.doctor.enclosure import enclosed
from local_agent.host.doctor.given import given_to, read_given
from local_agent.host.doctor.in_use import check_in_use
from local_agent.host.doctor.instance import Surroundings, check_labels
from local_agent.host.doctor.logins import check_logins
from local_agent.host.doctor.look import LOOK_SECONDS, Inspection, Subject, look_at, not_looked_at
from local_agent.host.doctor.owner import NotAskedError, owner_of
from local_agent.host.reading.bus import BusReader, buses
from local_agent.host.reading.gaps import limit_is_off, limited
from local_agent.host.reading.in_use import ask_settings
from local_agent.host.table import Colour, Terminal, printable
from local_agent.settings.model import BY_KEY
from local_agent.systemd.manager import DBusScopeManager
from local_agent.units.names import slice_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from local_agent.host.doctor.given import FlagsOf
    from local_agent.host.doctor.owner import Enclosed
    from local_agent.host.reading.agents import StateFolder
    from local_agent.host.reading.instances import Instance
    from local_agent.host.view import Host

FORMAT = 1

_COLOURS = {Verdict.OK: Colour.GOOD, Verdict.WARNING: Colour.DOUBTFUL, Verdict.FAILURE: Colour.BAD}
_VERDICT_WIDTH, _CHECK_WIDTH = 9, 24


def examine(host: Host, only: str | None = None, flags_of: FlagsOf = lambda _: {}) -> Iterator[Finding]:
    """Look at everything, or at one instance and the machine; each finding is there as soon as it is found.

    `flags_of` takes an agent's command line apart: option key -> what was given.
    """
    found, problems = host.instances(only)
    instances = [instance for instance in found if only or instance.is_wanted]
    yield from _machine(host)
    if not instances:
        yield ok("instances", "none is on this host yet; systemctl enable --now local-agent@NAME makes one")
    yield from _instances(host, instances, problems, flags_of)
    if host.managers:
        yield _canary(host)


def _machine(host: Host) -> Iterator[Finding]:
    if "system" not in host.managers:
        yield machine.check_systemd("")
        return
    try:
        with BusReader(SYSTEM_BUS) as reader:
            yield machine.check_systemd(reader.manager("Version"))
            yield services.check_reload(reader)
            yield services.check_broker(reader)
            yield from check_logins(reader)
    except ManagerUnreachableError as error:
        yield failure("systemd", error.message, error.hint)
    yield machine.check_cgroups()
    yield machine.check_pressure()
    yield machine.check_journal(Path("/etc/machine-id").read_text().strip())
    units = limited(host.runs().runs, host.uid)
    yield machine.check_dropped(host.journal, host.uids_of(None), units, limit_is_off=limit_is_off())
    yield from machine.check_disks([*(folder.path for folder in host.folders), Path("/var/log"), Path("/tmp")])  # noqa: S108 - looked at, not written to


def _instances(
    host: Host, instances: Sequence[Instance], problems: Sequence[str], flags_of: FlagsOf
) -> Iterator[Finding]:
    looks: dict[str, Inspection] = {}
    for instance in instances:
        yield from services.check_service(instance, __version__)
        looks[instance.name] = look = _look(host, instance, problems, flags_of)
        yield from look.findings
        yield from _in_use(host, instance, look)
    peers = [look.peer for look in looks.values() if look.peer]
    for name, look in looks.items():
        if look.peer and takes_by_labels(look):
            yield check_labels(name, look.peer, peers, ApiView(look.neighbours, None))


def takes_by_labels(look: Inspection) -> bool:
    """Tell whether an instance takes flow runs by labels: another kind of API may hand them out by something else."""
    return look.settings.get("protocol") in (None, BY_KEY["labels"].only)


def _in_use(host: Host, instance: Instance, look: Inspection) -> list[Finding]:
    folder = _folder_of(host, instance)
    used = ask_settings(folder) if folder and instance.agent else None
    return check_in_use(instance, used, look.settings if instance.service else {}) if used else []


def _folder_of(host: Host, instance: Instance) -> StateFolder | None:
    return next((folder for folder in host.folders if folder.instance == instance.name), None)


def _look(host: Host, instance: Instance, problems: Sequence[str], flags_of: FlagsOf) -> Inspection:
    """Look at what belongs to an instance's user, with that user's rights and no others."""
    folder = _folder_of(host, instance)
    try:
        around = _surroundings(host, instance, folder, problems, flags_of)
        owner = owner_of(around.user, around.groups)
        subject = Subject(instance.name, socket.gethostname(), around, folder)
        return look_at(subject, owner, host.uid, _enclosure(host, instance))
    except (UnavailableError, NotAskedError) as error:
        return not_looked_at(instance.name, str(error))


def _enclosure(host: Host, instance: Instance) -> Enclosed:
    """Return what encloses what root has an instance's user run; where there is no systemd, nothing can."""
    address = buses(host.uid, os.environ).get("system")
    if address is None:
        return lambda _pid: nullcontext()
    is_packaged = instance.service is not None and instance.service.manager == "system"
    return partial(enclosed, address, slice_of(instance.name) if is_packaged else "", LOOK_SECONDS)


def _surroundings(
    host: Host, instance: Instance, folder: StateFolder | None, problems: Sequence[str], flags_of: FlagsOf
) -> Surroundings:
    """Return what systemd gives it, or what its process was given. Raise ManagerUnreachableError where systemd does not
    say, UnavailableError where a file that it names cannot be read, NotAskedError.
    """
    if instance.service is None and problems:
        raise NotAskedError(problems[0])
    if instance.service is None:
        given = given_to(instance.place.pid, instance.place.uid, flags_of) if instance.place else None
        return given or Surroundings(str(folder.uid) if folder else str(host.uid))
    with host.managers[instance.service.manager]() as reader:
        units = reader.list_named([instance.service.unit])
        if not units:
            raise NotAskedError(f"systemd does not know {instance.service.unit}")
        around = read_given(reader, units[0].path, flags_of)
    # a user's own manager says no user: its services are all that user's
    return replace(around, user=str(host.uid)) if instance.service.manager == "user" else around


def _canary(host: Host) -> Finding:
    is_root = os.geteuid() == 0
    addresses = buses(host.uid, os.environ)
    address = addresses.get("system" if is_root else "user")
    if address is None:
        return not_tried()
    listens = is_root or host.journal.can_be_read_of(host.uid)

    async def sing() -> Finding:
        manager = DBusScopeManager(address)
        try:
            return await check_canary(manager, host.journal, listens=listens)
        finally:
            await manager.close()

    return asyncio.run(sing())


def shown(finding: Finding, terminal: Terminal) -> list[str]:
    """Return a finding's lines for a person."""
    verdict = finding.verdict.value
    check = f"{finding.about}: {finding.check}" if finding.about else finding.check
    head = terminal.coloured(verdict, _COLOURS[finding.verdict]) + " " * (_VERDICT_WIDTH - len(verdict))
    room = max(20, (terminal.width or 10_000) - _VERDICT_WIDTH - _CHECK_WIDTH)
    first, *more = textwrap.wrap(printable(finding.evidence), room) or [""]
    indent = " " * (_VERDICT_WIDTH + _CHECK_WIDTH)
    lines = [f"{head}{check:<{_CHECK_WIDTH - 1}} {first}", *(indent + line for line in more)]
    if finding.fix:
        fix = f"fix: {printable(finding.fix)}"
        lines.append(f"{' ' * _VERDICT_WIDTH}{terminal.coloured(fix, Colour.BOLD)}")
    return lines


def as_json(findings: Sequence[Finding], now: datetime) -> dict[str, Any]:
    """Return what scripts get; docs/commands/json.md says what each key means."""
    return {
        "format": FORMAT,
        "at": now.isoformat(timespec="milliseconds"),
        "ok": not any(finding.verdict is Verdict.FAILURE for finding in findings),
        "findings": [
            {
                "check": finding.check,
                "instance": finding.about or None,
                "verdict": finding.verdict.value,
                "evidence": finding.evidence,
                "fix": finding.fix or None,
            }
            for finding in findings
        ],
    }
