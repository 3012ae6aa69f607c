"""`local-agent doctor`: every check in order, and what they found as lines and as JSON."""

from __future__ import annotations

import asyncio
import os
import socket
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_agent import __version__
from local_agent.backends.prefect1.inquiry import ApiView
from local_agent.errors import ManagerUnreachableError
from local_agent.host.bus import SYSTEM_BUS, BusReader
from local_agent.host.checks import Finding, Verdict, failure, machine, ok, services
from local_agent.host.checks.canary import check_canary, not_tried
from local_agent.host.checks.instance import Surroundings, check_labels, read_surroundings
from local_agent.host.checks.logins import check_logins
from local_agent.host.checks.look import Look, Subject, look_at, not_looked_at
from local_agent.host.checks.owner import NotAskedError, owner_of
from local_agent.host.gaps import limit_is_off, limited
from local_agent.host.table import Colour, Terminal, printable
from local_agent.systemd.manager import DBusScopeManager

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from local_agent.host.agents import StateFolder
    from local_agent.host.instances import Instance
    from local_agent.host.view import Host

FORMAT = 1

_COLOURS = {Verdict.OK: Colour.GOOD, Verdict.WARNING: Colour.DOUBTFUL, Verdict.FAILURE: Colour.BAD}
_VERDICT_WIDTH, _CHECK_WIDTH = 9, 24


def examine(host: Host, only: str | None = None) -> Iterator[Finding]:
    """Look at everything, or at one instance and the machine; each finding is there as soon as it is found."""
    found, problems = host.instances(only)
    instances = [instance for instance in found if only or instance.is_wanted]
    yield from _machine(host)
    if not instances:
        yield ok("instances", "none is on this host yet; systemctl enable --now local-agent@NAME makes one")
    yield from _instances(host, instances, problems)
    if "system" in host.managers:
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


def _instances(host: Host, instances: Sequence[Instance], problems: Sequence[str]) -> Iterator[Finding]:
    looks: dict[str, Look] = {}
    for instance in instances:
        yield from services.check_service(instance, __version__)
        looks[instance.name] = look = _look(host, instance, problems)
        yield from look.findings
    peers = [look.peer for look in looks.values() if look.peer]
    for name, look in looks.items():
        if look.peer:
            yield check_labels(name, look.peer, peers, ApiView(look.neighbours, None))


def _look(host: Host, instance: Instance, problems: Sequence[str]) -> Look:
    """Look at what belongs to an instance's user, with that user's rights and no others."""
    folder = next((folder for folder in host.folders if folder.instance == instance.name), None)
    try:
        around = _surroundings(host, instance, folder, problems)
        owner = owner_of(around.user, around.groups)
        return look_at(Subject(instance.name, socket.gethostname(), around, folder), owner, host.uid)
    except (ManagerUnreachableError, NotAskedError) as error:
        return not_looked_at(instance.name, str(error))


def _surroundings(host: Host, instance: Instance, folder: StateFolder | None, problems: Sequence[str]) -> Surroundings:
    """Return what systemd gives it. Raise ManagerUnreachableError where systemd does not say, NotAskedError."""
    if instance.service is None and problems:
        raise NotAskedError(problems[0])
    if instance.service is None:
        return Surroundings(str(folder.uid) if folder else str(host.uid))
    with host.managers[instance.service.manager]() as reader:
        units = reader.list_named([instance.service.unit])
        if not units:
            raise NotAskedError(f"systemd does not know {instance.service.unit}")
        around = read_surroundings(reader, units[0].path)
    # a user's own manager says no user: its services are all that user's
    return replace(around, user=str(host.uid)) if instance.service.manager == "user" else around


def _canary(host: Host) -> Finding:
    if os.geteuid() != 0:
        return not_tried()

    async def sing() -> Finding:
        manager = DBusScopeManager(SYSTEM_BUS)
        try:
            return await check_canary(manager, host.journal)
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
    if finding.mend:
        lines.append(f"{' ' * _VERDICT_WIDTH}{terminal.coloured('mend: ' + finding.mend, Colour.BOLD)}")
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
                "mend": finding.mend or None,
            }
            for finding in findings
        ],
    }
