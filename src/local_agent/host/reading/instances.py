"""The instances of this host: their services as systemd sees them, their agents as those say themselves."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from local_agent.errors import ManagerUnreachableError
from local_agent.host.reading.agents import ask_agents
from local_agent.host.reading.bus import Wanted
from local_agent.host.reading.in_use import Waiting, ask_all
from local_agent.host.reading.place import place_of
from local_agent.host.reading.scopes import moment
from local_agent.report import API_LOST_ERRNO
from local_agent.units.names import SERVICES, instance_served_by, is_instance, service_of
from local_agent.wording import in_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from local_agent.host.reading.agents import Met, StateFolder
    from local_agent.host.reading.bus import Unit, UnitReader
    from local_agent.host.reading.place import Place
    from local_agent.report import AgentReport

    Managers = Mapping[str, Callable[[], AbstractContextManager[UnitReader]]]

_PROPERTIES = (
    *(("Service", name) for name in ("StatusText", "StatusErrno", "NRestarts", "Result", "ExecMainStatus", "MainPID")),
    *(("Unit", name) for name in ("ActiveEnterTimestamp", "UnitFileState")),
)
NOTHING_KNOWN: Mapping[str, Collection[str]] = MappingProxyType({})
NOTHING_WAITS = Waiting()
_ENABLED = ("enabled", "enabled-runtime")
_EXIT_CODES = {77: "the API does not accept its key", 78: "a setting is wrong"}


@dataclass(frozen=True, slots=True)
class Service:
    """The service of an instance, in systemd's own words."""

    unit: str
    manager: str
    active_state: str
    sub_state: str
    result: str
    exit_status: int
    status_text: str
    restarts: int
    since: datetime | None
    is_enabled: bool
    main_pid: int = 0
    status_errno: int = 0


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance: its service, None where it runs without one; its agent, None where it does not answer this user.

    `place` is where the agent runs if it is no packaged instance, `waiting` what changed since it read its settings.
    `agent_pid` is the process that answered as its agent, as the kernel knows it.
    """

    name: str
    service: Service | None
    agent: AgentReport | None
    may_ask: bool
    runs: int = 0
    place: Place | None = None
    waiting: Waiting = NOTHING_WAITS
    agent_pid: int = 0

    @property
    def is_wanted(self) -> bool:
        """Whether it runs, or should; one that was stopped and disabled is only remembered by its state folder."""
        if self.service is None or self.agent is not None or self.runs:
            return True
        return self.service.is_enabled or self.service.active_state != "inactive"

    @property
    def problem(self) -> str:
        """What is not well, as a sentence; "" where all is."""
        return (_service_problem(self.service, self.runs) if self.service else "") or self._agent_problem()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing of it and no trouble, as sentences."""
        where = (self.place.in_words,) if self.place else ()
        return (*where, *self.waiting.in_words(self.how_to_restart, self.how_to_reload))

    @property
    def how_to_restart(self) -> str:
        """What a person types to restart its agent, "" where that is not known."""
        if self.service is None:
            return "restart it as it was started"
        return f"systemctl {self._users}restart {shlex.quote(self.service.unit)}"

    @property
    def how_to_reload(self) -> str:
        """What a person types to have it read its settings again."""
        return f"local-agent reload --instance {shlex.quote(self.name)}"

    @property
    def _users(self) -> str:
        return "--user " if self.service and self.service.manager == "user" else ""

    @property
    def _words(self) -> str:
        """What the agent told systemd of itself, which anybody may read; of one that does not run it is stale."""
        return self.service.status_text if self.service and self.service.active_state == "active" else ""

    @property
    def has_lost_api(self) -> bool:
        """Whether its agent cannot reach the API, as it told systemd, which anybody may ask, or as it says itself."""
        if self.agent is not None:
            return not self.agent.api.reachable
        service = self.service
        return service is not None and service.active_state == "active" and service.status_errno == API_LOST_ERRNO

    def _agent_problem(self) -> str:
        if self.agent is None:
            if self.has_lost_api:
                return f"its agent does not reach the API: {self._words}"
            is_active = self.service is not None and self.service.active_state == "active"
            is_up = is_active if self.place is None else not self.place.is_new
            silent = self.may_ask and is_up
            return "its agent does not answer on its control socket" if silent else ""
        if not self.agent.api.reachable:
            lost_for = in_time(self.agent.api.for_seconds or 0.0)
            return f"API unreachable for {lost_for}: {self.agent.api.reason}"
        return self.agent.unfit_because or self.agent.api.problem


def enabled_names(units: Path) -> set[str]:
    """Given the folder where `systemctl enable` makes its links, return the instances that start at boot."""
    links = units.glob(f"*.wants/{SERVICES}")
    return {name for link in links if (name := instance_served_by(link.name))}


def find_instances(
    managers: Managers,
    folders: Sequence[StateFolder],
    runs: Mapping[str, int],
    known: Mapping[str, Collection[str]] = NOTHING_KNOWN,
) -> tuple[list[Instance], list[str]]:
    """Return the instances, and a sentence for each manager that did not answer.

    `runs` is how many flow runs each has here; `known` are each manager's instances that may be stopped: systemd lists
    no unit that it has no need for.
    """
    agents = ask_agents(folders)
    told = ask_all([folder for folder in folders if folder.path in agents])
    places = _places(folders, agents)
    services, problems = _services(managers, known, places)
    by_name = {folder.instance: folder for folder in folders}
    instances = []
    for name in dict.fromkeys([*services, *by_name]):
        folder, service, place = by_name.get(name), services.get(name), places.get(name)
        met = agents.get(folder.path) if folder else None
        agent, pid = (met.report, met.pid) if met else (None, 0)
        if service or agent or place or (folder and folder.is_anybodys and runs.get(name)):
            may_ask = folder is not None and os.access(folder.path, os.X_OK)
            waiting = told[folder.path].waiting if folder and folder.path in told else NOTHING_WAITS
            instances.append(Instance(name, service, agent, may_ask, runs.get(name, 0), place, waiting, pid))
    return sorted(instances, key=lambda instance: instance.name), problems


def _places(folders: Sequence[StateFolder], agents: Mapping[Path, Met]) -> dict[str, Place]:
    """Return where the agents run that are no packaged instances."""
    places = {}
    for folder in folders:
        met = agents.get(folder.path)
        pid = met.pid if met else folder.pid
        place = place_of(folder, pid, met.report.ends_with if met else "") if pid else None
        if place and place.unit != service_of(folder.instance):
            places[folder.instance] = place
    return places


def _services(
    managers: Managers, known: Mapping[str, Collection[str]], places: Mapping[str, Place]
) -> tuple[dict[str, Service], list[str]]:
    services: dict[str, Service] = {}
    problems: list[str] = []
    for name, open_reader in managers.items():
        try:
            with open_reader() as reader:
                services |= read_services(reader, name, known.get(name, ()))
                services |= _services_of(reader, name, places)
        except ManagerUnreachableError as error:
            problems.append(error.message)
    return services, problems


def _services_of(reader: UnitReader, manager: str, places: Mapping[str, Place]) -> dict[str, Service]:
    """Return the services whose main processes are agents, whatever they are called; of users' own managers the own."""
    own = {
        name: place
        for name, place in places.items()
        if place.manager == manager
        and place.unit.endswith(".service")
        and (manager == "system" or place.uid == os.geteuid())
    }
    units = {unit.name: unit for unit in reader.list_named(sorted({place.unit for place in own.values()}))}
    read = _read(reader, manager, [*units.values()])
    return {
        name: service
        for name, place in own.items()
        if (service := read.get(place.unit)) and service.main_pid == place.pid
    }


def read_services(reader: UnitReader, manager: str, known: Collection[str] = ()) -> dict[str, Service]:
    """Given one of systemd's managers, return its instances' services by instance. Raise ManagerUnreachableError."""
    loaded = [unit for unit in reader.list_units([SERVICES]) if instance_served_by(unit.name)]
    stopped = {service_of(name) for name in known if is_instance(name)}
    named = reader.list_named(sorted(stopped - {unit.name for unit in loaded}))
    read = _read(reader, manager, [*loaded, *(unit for unit in named if unit.load_state == "loaded")])
    return {instance_served_by(unit): service for unit, service in read.items()}


def _read(reader: UnitReader, manager: str, units: Sequence[Unit]) -> dict[str, Service]:
    """Return services by the names of their units."""
    wanted = [Wanted(unit.path, interface, name) for unit in units for interface, name in _PROPERTIES]
    values = reader.read(wanted)
    each = len(_PROPERTIES)
    return {
        unit.name: _service(unit, manager, values[number * each : (number + 1) * each])
        for number, unit in enumerate(units)
    }


def _service(unit: Unit, manager: str, values: Iterable[Any]) -> Service:
    shown = dict(zip((name for _, name in _PROPERTIES), values, strict=True))
    return Service(
        unit=unit.name,
        manager=manager,
        active_state=unit.active_state,
        sub_state=unit.sub_state,
        result=str(shown["Result"] or ""),
        exit_status=int(shown["ExecMainStatus"] or 0),
        status_text=str(shown["StatusText"] or ""),
        restarts=int(shown["NRestarts"] or 0),
        since=moment(shown["ActiveEnterTimestamp"]),
        is_enabled=shown["UnitFileState"] in _ENABLED,
        main_pid=int(shown["MainPID"] or 0),
        status_errno=int(shown["StatusErrno"] or 0),
    )


def _service_problem(service: Service, runs: int) -> str:
    if service.active_state == "failed":
        return f"{service.unit} failed: {_how(service)}"
    if service.sub_state == "auto-restart":
        return f"{service.unit} ended ({_how(service)}) and is about to be started again"
    if service.active_state == "inactive" and runs:
        some = "1 flow run of it is" if runs == 1 else f"{runs} flow runs of it are"
        return f"{service.unit} does not run, and {some} still here: how they end is reported when it starts"
    if service.active_state == "inactive" and service.is_enabled:
        return f"{service.unit} is enabled and does not run"
    return ""


def _how(service: Service) -> str:
    if service.result == "exit-code":
        meaning = _EXIT_CODES.get(service.exit_status)
        return f"exit code {service.exit_status}" + (f", {meaning}" if meaning else "")
    return service.result
