"""Asking systemd how its units stand, over the bus and without a loop: any user may.

Properties of many units are asked for in one go, before the first answer is read: 500 take some 40 ms.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from jeepney import DBusAddress, HeaderFields, Message, MessageType, new_method_call
from jeepney.io.blocking import open_dbus_connection

from local_agent.errors import ManagerUnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

_NAME = "org.freedesktop.systemd1"
_MANAGER = DBusAddress(f"/{_NAME.replace('.', '/')}", _NAME, f"{_NAME}.Manager")
_PROPERTIES = "org.freedesktop.DBus.Properties"
_TIMEOUT_SECONDS = 30.0
_ASKED_AT_ONCE = 100  # the bus lets a connection wait for 128 answers (dbus-daemon(1), max_replies_per_connection)
_BOOTED = Path("/run/systemd/system")  # sd_booted(3)
SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"


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
            self._connection = open_dbus_connection(self._address)
        except (OSError, ValueError, EOFError) as error:
            raise ManagerUnreachableError(
                f"cannot reach systemd on the bus {self._address}: {error}", hint="systemctl status dbus"
            ) from error
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def list_units(self, patterns: Sequence[str]) -> list[Unit]:
        """Ask ListUnitsByPatterns."""
        return self._listed(new_method_call(_MANAGER, "ListUnitsByPatterns", "asas", ([], list(patterns))))

    def list_named(self, names: Sequence[str]) -> list[Unit]:
        """Ask ListUnitsByNames."""
        return self._listed(new_method_call(_MANAGER, "ListUnitsByNames", "as", (list(names),))) if names else []

    def _listed(self, question: Message) -> list[Unit]:
        (answer,) = self._ask([question])
        if answer.header.message_type is MessageType.error:
            raise ManagerUnreachableError(f"systemd refuses to list units: {_in_words(answer)}")
        return [Unit(row[0], row[1], row[2], row[3], row[4], row[6]) for row in answer.body[0]]

    def manager(self, name: str) -> str:
        """Return one of the manager's own properties, as text; "" where it has none of that name."""
        (answer,) = self._ask([_get(_MANAGER.object_path, "Manager", name)])
        return str(_value(answer) or "")

    def read(self, wanted: Sequence[Wanted]) -> list[Any]:
        """Ask for properties, many at a time."""
        values: list[Any] = []
        for start in range(0, len(wanted), _ASKED_AT_ONCE):
            some = wanted[start : start + _ASKED_AT_ONCE]
            answers = self._ask([_get(one.path, one.interface, one.name) for one in some])
            values += [_value(answer) for answer in answers]
        return values

    def _ask(self, messages: Sequence[Message]) -> list[Message]:
        """Send all, then read the answers, and return them in the same order."""
        until = time.monotonic() + self._timeout_seconds
        try:
            serials = [self._send(message) for message in messages]
            answers: dict[int, Message] = {}
            while len(answers) < len(serials):
                message = self._connection.receive(timeout=max(0.0, until - time.monotonic()))
                serial = message.header.fields.get(HeaderFields.reply_serial)
                if serial is not None:
                    answers[serial] = message
        except TimeoutError as error:
            raise ManagerUnreachableError(
                f"systemd did not answer within {self._timeout_seconds:.0f} s",
                hint="is PID 1 busy? systemctl list-jobs",
            ) from error
        except (OSError, EOFError) as error:
            raise ManagerUnreachableError(
                "the connection to systemd broke while it was asked", hint="systemctl status dbus"
            ) from error
        return [answers[serial] for serial in serials]

    def _send(self, message: Message) -> int:
        serial: int = next(self._connection.outgoing_serial)
        self._connection.send(message, serial=serial)
        return serial


def buses(uid: int, environ: Mapping[str, str], booted: Path = _BOOTED) -> dict[str, str]:
    """Given a user, return the buses whose managers may hold flow runs of this user's concern: name -> address.

    There is none where systemd does not run the machine.
    """
    if not booted.is_dir():
        return {}
    found = {"system": SYSTEM_BUS}
    own = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}") / "bus"
    if uid != 0 and own.exists():
        found["user"] = f"unix:path={own}"
    return found


def _get(path: str, interface: str, name: str) -> Message:
    address = DBusAddress(path, _NAME, _PROPERTIES)
    return new_method_call(address, "Get", "ss", (f"{_NAME}.{interface}", name))


def _value(answer: Message) -> Any:  # noqa: ANN401 - a property's value may be of any type
    return None if answer.header.message_type is MessageType.error else answer.body[0][1]


def _in_words(answer: Message) -> str:
    return str(answer.body[0]) if answer.body else str(answer.header.fields.get(HeaderFields.error_name))
