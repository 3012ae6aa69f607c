"""The instances' services and the broker, as systemd shows them to anybody."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import ManagerUnreachableError
from local_agent.host.doctor.check import Finding, failure, ok, warning
from local_agent.host.doctor.groups import groups_of, name_of
from local_agent.host.reading.bus import Wanted
from local_agent.units.names import SERVICES, instance_served_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_agent.host.reading.bus import UnitReader
    from local_agent.host.reading.instances import Instance, Service

_SOCKET = "local-agent-broker.socket"
_SERVICE = "local-agent-broker.service"
_FIX_SYSTEMD = "systemctl list-jobs # is PID 1 busy? then ask again"
_FOR_ITS_GROUP = 0o060
# a socket whose service runs is not started
_FIX_BROKER = f"systemctl stop {_SOCKET} {_SERVICE}; systemctl enable --now {_SOCKET}"


def check_service(instance: Instance, installed_version: str) -> list[Finding]:
    """An instance's service and its agent."""
    about, service = instance.name, instance.service
    findings = []
    if service is None and not (instance.place and instance.problem):
        findings.append(_elsewhere(instance))
    elif service is None:
        findings.append(failure("service", instance.problem, _log_of(instance), about))
    elif instance.problem and not instance.problem.startswith("API "):
        is_stopped = service.active_state == "inactive"
        start = f"systemctl {_own(service)}start {service.unit}"
        fix = start if is_stopped else f"{_last_words(service)} # once that is fixed: {start}"
        findings.append(failure("service", instance.problem, fix, about))
    elif service.restarts:
        times = "once" if service.restarts == 1 else f"{service.restarts} times"
        evidence = f"systemd has restarted it {times} since somebody started it"
        findings.append(warning("service", evidence, _look_and_restart(service, instance), about))
    elif instance.place:
        findings.append(_elsewhere(instance))
    else:
        findings.append(ok("service", f"{service.active_state}, never restarted by systemd", about))
    version = instance.agent.version if instance.agent else installed_version
    if version != installed_version:
        fix = "restart it" if service is None else f"systemctl {_own(service)}restart {service.unit}{_fate(instance)}"
        findings.append(warning("version", f"{version} runs, {installed_version} is installed", fix, about))
    return findings


def _own(service: Service) -> str:
    return "--user " if service.manager == "user" else ""


def _last_words(service: Service) -> str:
    return f"journalctl {_own(service)}-u {service.unit} -n 50"


def _look_and_restart(service: Service, instance: Instance) -> str:
    """Return what tells why it was restarted, and has systemd count anew."""
    restart = f"systemctl {_own(service)}restart {service.unit}{_fate(instance)}"
    return f"{_last_words(service)}; {restart}"


def _fate(instance: Instance) -> str:
    ends = instance.place is not None and instance.place.ends_with
    return " # this ends the flow runs that it has" if ends else " # flow runs go on"


def _elsewhere(instance: Instance) -> Finding:
    """An agent that is no packaged instance, and whether its flow runs end with it."""
    place = instance.place
    if place is None:
        return ok("service", "it runs without a service of systemd", instance.name)
    if not place.ends_with:
        return ok("service", place.in_words, instance.name)
    own = "--user " if place.manager == "user" else ""
    # enable-linger does not wait for the user's manager, and an agent that starts before it has no scopes
    manager = f"loginctl enable-linger {place.user} && systemctl start user@{place.uid}.service"
    fix = f"{manager} && systemctl {own}restart {shlex.quote(place.ends_with)}"
    return warning("service", place.in_words, f"{fix} # this once it ends the flow runs that it has", instance.name)


def _log_of(instance: Instance) -> str:
    return f"look into its log: {instance.place.log}" if instance.place else ""


def check_reload(reader: UnitReader) -> Finding:
    """Whether systemd has read the units as they are on disk."""
    units = reader.list_units(["local-agent*", "flowruns*.slice"])
    answers = reader.read([Wanted(unit.path, "Unit", "NeedDaemonReload") for unit in units])
    if units and all(answer is None for answer in answers):
        return warning("units", "not asked: systemd does not say whether they changed", _FIX_SYSTEMD)
    stale = [unit.name for unit, answer in zip(units, answers, strict=True) if answer is True]
    if stale:
        return warning(
            "units", f"changed on disk since systemd read them: {', '.join(stale)}", "systemctl daemon-reload"
        )
    return ok("units", "as they are on disk")


def check_broker(reader: UnitReader) -> Finding:
    """The broker, where an instance runs as a user that is not root and so needs it."""
    needing = _needing_broker(reader)
    if not needing:
        return ok("broker", "no instance needs it: none runs as another user than root")
    units = {unit.name: unit for unit in reader.list_units([_SOCKET, _SERVICE])}
    states = {name: unit.active_state for name, unit in units.items()}
    if states.get(_SOCKET) != "active":
        named = ", ".join(map(instance_served_by, needing))
        return failure(
            "broker",
            f"{_SOCKET} is {states.get(_SOCKET, 'not there')}: no flow run of {named} can be started",
            _FIX_BROKER,
        )
    if states.get(_SERVICE) == "failed":
        return failure("broker", f"{_SERVICE} failed", f"systemctl reset-failed {_SERVICE}; {_FIX_BROKER}")
    (listens,) = reader.read([Wanted(units[_SOCKET].path, "Socket", "Listen")])
    problem = next((found for _, path in listens or () if (found := _problem_of(Path(path), needing))), "")
    if problem:
        return failure("broker", problem, _FIX_BROKER)
    return ok("broker", f"{_SOCKET} listens")


def _needing_broker(reader: UnitReader) -> dict[str, set[int]]:
    """Return the services that run as another user than root, each with the groups that systemd gives it.

    Raise ManagerUnreachableError where systemd does not say.
    """
    services = reader.list_units([SERVICES])
    names = ("User", "Group", "SupplementaryGroups")
    values = reader.read([Wanted(unit.path, "Service", name) for unit in services for name in names])
    needing = {}
    for number, unit in enumerate(services):
        user, group, more = values[number * len(names) : (number + 1) * len(names)]
        if user is None:
            raise ManagerUnreachableError(f"systemd does not say which user {unit.name} runs as", hint=_FIX_SYSTEMD)
        if user not in ("", "root", "0"):
            needing[unit.name] = groups_of(str(user), [str(group or ""), *map(str, more or ())])
    return needing


def _problem_of(path: Path, needing: Mapping[str, set[int]]) -> str:
    """Say what keeps an agent from connecting to the broker's socket, "" where nothing does."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return f"{path} is gone, though {_SOCKET} listens"
    except OSError:
        return ""
    if status.st_mode & _FOR_ITS_GROUP != _FOR_ITS_GROUP:
        return f"{path} has the mode {status.st_mode & 0o777:04o}: its group may not connect"
    outside = [name for name, groups in needing.items() if status.st_gid not in groups]
    return f"{path} belongs to group {name_of(status.st_gid)}, and {', '.join(outside)} is not in it" if outside else ""
