"""The instances' services and the broker, as systemd shows them to anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_agent.host.bus import Wanted
from local_agent.host.checks import Finding, failure, ok, warning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_agent.host.bus import UnitReader
    from local_agent.host.instances import Instance

_SOCKET = "local-agent-broker.socket"
_SERVICE = "local-agent-broker.service"


def check_service(instance: Instance, installed_version: str) -> list[Finding]:
    """An instance's service and its agent."""
    about, service = instance.name, instance.service
    findings = []
    if service is None:
        findings.append(ok("service", "it runs without a service of systemd", about))
    elif instance.problem and not instance.problem.startswith("API "):
        findings.append(failure("service", instance.problem, f"journalctl -u {service.unit} -e", about))
    elif service.restarts:
        findings.append(
            warning(
                "service", f"systemd has restarted it {service.restarts} times", f"journalctl -u {service.unit}", about
            )
        )
    else:
        findings.append(ok("service", f"{service.active_state}, never restarted by systemd", about))
    version = instance.agent.version if instance.agent else installed_version
    if version != installed_version:
        mend = f"systemctl restart local-agent@{about} (flow runs go on)"
        findings.append(warning("version", f"{version} runs, {installed_version} is installed", mend, about))
    return findings


def check_reload(reader: UnitReader) -> Finding:
    """Whether systemd has read the units as they are on disk."""
    units = reader.list_units(["local-agent*", "flowruns*.slice"])
    answers = reader.read([Wanted(unit.path, "Unit", "NeedDaemonReload") for unit in units])
    stale = [unit.name for unit, answer in zip(units, answers, strict=True) if answer is True]
    if stale:
        return warning(
            "units", f"changed on disk since systemd read them: {', '.join(stale)}", "systemctl daemon-reload"
        )
    return ok("units", "as they are on disk")


def check_broker(reader: UnitReader) -> Finding:
    """The broker, where an instance runs as a user that is not root and so needs it."""
    services = reader.list_units(["local-agent@*.service"])
    users = reader.read([Wanted(unit.path, "Service", "User") for unit in services])
    needing = [unit.name for unit, user in zip(services, users, strict=True) if user not in ("", "root", "0", None)]
    if not needing:
        return ok("broker", "no instance needs it: none runs as another user than root")
    states = {unit.name: unit.active_state for unit in reader.list_units([_SOCKET, _SERVICE])}
    if states.get(_SOCKET) != "active":
        return failure(
            "broker",
            f"{_SOCKET} is {states.get(_SOCKET, 'not there')}: no flow run of {_named(needing)} can be started",
            f"systemctl enable --now {_SOCKET}",
        )
    if states.get(_SERVICE) == "failed":
        return failure("broker", f"{_SERVICE} failed", f"journalctl -u {_SERVICE} -e")
    return ok("broker", f"{_SOCKET} listens")


def _named(units: Sequence[str]) -> str:
    return ", ".join(unit.removeprefix("local-agent@").removesuffix(".service") for unit in units)
