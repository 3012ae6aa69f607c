"""`local-agent status`: the instances as a table, and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_agent.host.table import Cell, Colour, Column, compact_bytes, compact_seconds, render
from local_agent.linux import procfs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from local_agent.host.reading.instances import Instance, Service
    from local_agent.host.reading.place import Place
    from local_agent.host.table import Terminal
    from local_agent.report import AgentReport

FORMAT = 1

_COLUMNS = (
    Column("INSTANCE"),
    Column("SERVICE"),
    Column("SINCE", right=True, goes=3),
    Column("API"),
    Column("POLL", right=True, goes=4),
    Column("LABELS", enough=12, goes=2),
    Column("SLOTS", right=True),
    Column("RUNS", right=True),
    Column("RESTARTS", right=True, goes=5),
    Column("VERSION", goes=6),
)
_STATES = {"active": Colour.GOOD, "failed": Colour.BAD, "inactive": Colour.FAINT}


@dataclass(frozen=True, slots=True)
class Pressure:
    """How the machine is: in how much of the last 10 s something waited (None without PSI), and its free memory."""

    cpu_percent: float | None
    memory_percent: float | None
    io_percent: float | None
    available_bytes: int | None


def read_pressure() -> Pressure:
    """Read it from /proc."""
    cpu, memory, io = (procfs.pressure_percent(resource) for resource in ("cpu", "memory", "io"))
    return Pressure(cpu, memory, io, procfs.available_memory_bytes())


def table(instances: Sequence[Instance], now: datetime, terminal: Terminal) -> list[str]:
    """Return the lines that show instances to a person."""
    if not instances:
        return ["no instance of local-agent is on this host"]
    return render(_COLUMNS, [_row(instance, now) for instance in instances], terminal)


def in_words(pressure: Pressure) -> str:
    """Say how the machine is, in a line."""
    shares = {"cpu": pressure.cpu_percent, "memory": pressure.memory_percent, "io": pressure.io_percent}
    said = ", ".join(f"{name} {share:.1f} %" for name, share in shares.items() if share is not None)
    return f"pressure: {said or 'not measured here'}; {compact_bytes(pressure.available_bytes)} of memory available"


def _row(instance: Instance, now: datetime) -> list[Cell]:
    service, agent = instance.service, instance.agent
    since = service.since if service and service.active_state == "active" else None
    return [
        Cell(instance.name),
        _service_cell(service),
        Cell(compact_seconds((now - since).total_seconds() if since else None)),
        _api_cell(instance),
        Cell(compact_seconds(agent.api.answered_seconds_ago) if agent else "-"),
        Cell(", ".join(agent.labels) or "(none)" if agent else "-"),
        Cell(_slots(agent)),
        Cell(str(instance.runs)),
        Cell(str(service.restarts) if service else "-"),
        Cell(agent.version if agent else "-"),
    ]


def _service_cell(service: Service | None) -> Cell:
    if service is None:
        return Cell("none")
    shown = service.sub_state if service.sub_state == "auto-restart" else service.active_state
    return Cell(shown, _STATES.get(service.active_state, Colour.DOUBTFUL))


def _api_cell(instance: Instance) -> Cell:
    if instance.agent is not None:
        if instance.agent.api.reachable:
            return Cell(f"answers {compact_seconds(instance.agent.api.for_seconds)}", Colour.GOOD)
        return Cell(f"lost {compact_seconds(instance.agent.api.for_seconds)}", Colour.BAD)
    return Cell("lost", Colour.BAD) if instance.has_lost_api else Cell("-")


def _slots(agent: AgentReport | None) -> str:
    if agent is None:
        return "-"
    if agent.draining:
        return "draining"
    return f"{agent.slots_taken}/{agent.slots_limit}" if agent.slots_limit is not None else f"{agent.slots_taken}"


def is_well(instances: Sequence[Instance], problems: Sequence[str]) -> bool:
    """Tell whether all is well; what could not be looked at is not called well."""
    return not problems and not any(instance.problem for instance in instances)


def as_json(
    instances: Sequence[Instance], pressure: Pressure, problems: Sequence[str], now: datetime
) -> dict[str, Any]:
    """Return what scripts get; docs/commands/json.md says what each key means."""
    return {
        "format": FORMAT,
        "at": now.isoformat(timespec="milliseconds"),
        "ok": is_well(instances, problems),
        "instances": [_instance_as_json(instance) for instance in instances],
        "machine": machine_as_json(pressure),
        "problems": list(problems),
    }


def machine_as_json(pressure: Pressure) -> dict[str, Any]:
    """Return how the machine is as scripts get it."""
    return {
        "pressure_cpu_percent": pressure.cpu_percent,
        "pressure_memory_percent": pressure.memory_percent,
        "pressure_io_percent": pressure.io_percent,
        "memory_available_bytes": pressure.available_bytes,
    }


def _instance_as_json(instance: Instance) -> dict[str, Any]:
    return {
        "instance": instance.name,
        "service": _service_as_json(instance.service) if instance.service else None,
        "agent": _agent_as_json(instance.agent) if instance.agent else None,
        "process": _place_as_json(instance.place) if instance.place else None,
        "runs": instance.runs,
        "problem": instance.problem or None,
        "notes": list(instance.notes),
        "waits_for_reload": list(instance.waiting.reload),
        "waits_for_restart": list(instance.waiting.restart),
    }


def _place_as_json(place: Place) -> dict[str, Any]:
    return {
        "pid": place.pid,
        "user": place.user,
        "unit": place.unit or None,
        "manager": place.manager or None,
        "state_dir": str(place.state_dir),
        "ends_with": place.ends_with or None,
        "log": place.log,
    }


def _service_as_json(service: Service) -> dict[str, Any]:
    return {
        "unit": service.unit,
        "manager": service.manager,
        "active_state": service.active_state,
        "sub_state": service.sub_state,
        "result": service.result,
        "enabled": service.is_enabled,
        "since": service.since.isoformat(timespec="milliseconds") if service.since else None,
        "restarts": service.restarts,
        "status_text": service.status_text,
    }


def _agent_as_json(agent: AgentReport) -> dict[str, Any]:
    return {
        "version": agent.version,
        "labels": list(agent.labels),
        "api": {**agent.api.to_json(), "reason": agent.api.reason or None, "problem": agent.api.problem or None},
        "slots_limit": agent.slots_limit,
        "slots_taken": agent.slots_taken,
        "draining": agent.draining,
        "takes_none_because": agent.takes_none_because or None,
        "unfit_because": agent.unfit_because or None,
    }
