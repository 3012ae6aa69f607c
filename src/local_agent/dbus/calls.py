"""Calls of systemd's manager and of its units' properties, as messages; and what is said to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jeepney import DBusAddress, HeaderFields, Message, MessageType, new_method_call

if TYPE_CHECKING:
    from jeepney.wrappers import DBusErrorResponse

SYSTEMD = "org.freedesktop.systemd1"
MANAGER_PATH = "/org/freedesktop/systemd1"
NOT_LOADED = (f"{SYSTEMD}.NoSuchUnit", f"{SYSTEMD}.LoadFailed")
_UNKNOWN = ("UnknownObject", "UnknownMethod", "UnknownInterface", "UnknownProperty")
# what systemd says of a unit that it unloads between two questions
NOT_THERE = (*NOT_LOADED, *(f"org.freedesktop.DBus.Error.{name}" for name in _UNKNOWN))
_MANAGER = DBusAddress(MANAGER_PATH, SYSTEMD, f"{SYSTEMD}.Manager")
_PROPERTIES = "org.freedesktop.DBus.Properties"


def manager_call(method: str, signature: str = "", body: tuple[Any, ...] = ()) -> Message:
    """Return a call of a method of systemd's manager (org.freedesktop.systemd1(5))."""
    return new_method_call(_MANAGER, method, signature or None, body)


def property_call(path: str, interface: str, name: str) -> Message:
    """Return the question for a property of an object of systemd; `interface` is Manager, Unit, Scope, Job, ..."""
    address = DBusAddress(path, SYSTEMD, _PROPERTIES)
    return new_method_call(address, "Get", "ss", (f"{SYSTEMD}.{interface}", name))


def member_of(call: Message) -> str:
    """Return the name of the method that is called."""
    return str(call.header.fields.get(HeaderFields.member, ""))


def describe(error: DBusErrorResponse) -> str:
    """Return what a no says."""
    return str(error.data[0]) if error.data else str(error.name)


def refusal_in(answer: Message) -> str | None:
    """Return what an answer says where it is a no; None where it is none."""
    if answer.header.message_type is not MessageType.error:
        return None
    return str(answer.body[0]) if answer.body else str(answer.header.fields.get(HeaderFields.error_name))
