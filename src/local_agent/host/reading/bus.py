"""Asking systemd how its units stand, over the bus and without a loop: any user may.

Properties of many units are asked for in one go, before the first answer is read: 500 take some 40 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from local_agent.dbus import SYSTEM_BUS, BusError, SilentBusError, address_of, bus_of_user
from local_agent.dbus.blocking import BlockingBus
from local_agent.dbus.calls import MANAGER_PATH, manager_call, property_call, refusal_in
from local_agent.errors import ManagerUnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from jeepney import Message

_TIMEOUT_SECONDS = 30.0
_ASKED_AT_ONCE = 100  # the bus lets a connection wait for 128 answers (dbus-daemon(1), max_replies_per_connection)
_BOOTED = Path("/run/systemd/system")  # sd_booted(3)


@dataclass(frozen=True, slots=True)
class Unit:
    """A loaded unit, in systemd's own words; `path` is its object on the bus."""

    name: str
    description: str
    load_state: str
    active_state: str
    sub_state: str
    path: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A property of a unit: "Unit", "Scope" or another type is the interface that has it."""

    path: str
    interface: str
    name: str


class UnitReader(Protocol):
    """One of systemd's managers, to be read from."""

    def list_units(self, patterns: Sequence[str]) -> list[Unit]:
        """Return the loaded units whose names fit one of the patterns. Raise ManagerUnreachableError."""

    def list_named(self, names: Sequence[str]) -> list[Unit]:
        """Return these units, loaded for it if need be: one that stopped is not. Raise ManagerUnreachableError."""

    def read(self, wanted: Sequence[Wanted]) -> list[Any]:
        """Return the properties' values, None for those that are not there. Raise ManagerUnreachableError."""


class BusReader:
    """A UnitReader on the bus at `address`, for the length of its `with` block."""

    def __init__(self, address: str, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        self._address = address
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> Self:
        try:
            self._bus = BlockingBus(self._address, self._timeout_seconds)
        except BusError as error:
            raise ManagerUnreachableError(
                f"cannot reach systemd on the bus {self._address}: {error}", hint="systemctl status dbus"
            ) from error
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._bus.close()

    def list_units(self, patterns: Sequence[str]) -> list[Unit]:
        """Ask ListUnitsByPatterns."""
        return self._listed(manager_call("ListUnitsByPatterns", "asas", ([], list(patterns))))

    def list_named(self, names: Sequence[str]) -> list[Unit]:
        """Ask ListUnitsByNames."""
        return self._listed(manager_call("ListUnitsByNames", "as", (list(names),))) if names else []

    def _listed(self, question: Message) -> list[Unit]:
        (answer,) = self._ask([question])
        if (refusal := refusal_in(answer)) is not None:
            raise ManagerUnreachableError(f"systemd refuses to list units: {refusal}")
        return [Unit(row[0], row[1], row[2], row[3], row[4], row[6]) for row in answer.body[0]]

    def manager(self, name: str) -> str:
        """Return one of the manager's own properties, as text; "" where it has none of that name."""
        (answer,) = self._ask([property_call(MANAGER_PATH, "Manager", name)])
        return str(_value(answer) or "")

    def read(self, wanted: Sequence[Wanted]) -> list[Any]:
        """Ask for properties, many at a time."""
        values: list[Any] = []
        for start in range(0, len(wanted), _ASKED_AT_ONCE):
            some = wanted[start : start + _ASKED_AT_ONCE]
            answers = self._ask([property_call(one.path, one.interface, one.name) for one in some])
            values += [_value(answer) for answer in answers]
        return values

    def _ask(self, calls: Sequence[Message]) -> list[Message]:
        try:
            return self._bus.ask(calls, self._timeout_seconds)
        except SilentBusError as error:
            raise ManagerUnreachableError(
                f"systemd did not answer within {self._timeout_seconds:.0f} s",
                hint="is PID 1 busy? systemctl list-jobs",
            ) from error
        except BusError as error:
            raise ManagerUnreachableError(
                f"the connection to systemd broke while it was asked: {error}", hint="systemctl status dbus"
            ) from error


def buses(uid: int, environ: Mapping[str, str], booted: Path = _BOOTED) -> dict[str, str]:
    """Given a user, return the buses whose managers may hold flow runs of this user's concern: name -> address.

    There is none where systemd does not run the machine.
    """
    if not booted.is_dir():
        return {}
    found = {"system": SYSTEM_BUS}
    own = bus_of_user(uid, environ)
    if uid != 0 and own.exists():
        found["user"] = address_of(own)
    return found


def _value(answer: Message) -> Any:  # noqa: ANN401 - a property's value may be of any type
    return None if refusal_in(answer) is not None else answer.body[0][1]
