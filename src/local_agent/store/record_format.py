"""The lines of a record's file, as text and back.

The rule of the format: a version may add a field with a default, and a reader keeps what it does not know and writes it
back. So either may read what the other wrote. Where a field would change its meaning, `format` grows, and a reader
leaves a record of a higher format as it is. A record says the lowest format whose readers do right by it.

| format | who reads it | what it says |
|---|---|---|
| 1 | 0.1.0 and later | flow runs of Prefect 1 and the launchers `process` and `scope`, by `process` and `unit` |
| 2 | later | all others: 0.1.0 would ask the wrong API, or take one without a process for ended |

Version 0.1.0 throws a record aside that has a field more, and skips a line that is no JSON. So what it does not know
goes before a record's line, on a line that begins with `+`: after a downgrade it reads its own fields and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from local_agent.limits import Limits
from local_agent.model import Cause, Cost, End, ProcessIdentity, Record, Step

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT = 2
_FIRST_FORMAT = 1
_MORE = "+"
_FIRST_BACKEND = "prefect1"  # 0.1.0 knows no other, and does not say so
# what 0.1.0 has of a ticket, as fields of their own that it insists on
_FIRST_TICKET: Mapping[str, Any] = {"version": 0, "task_runs": []}

_Made = TypeVar("_Made", bound="DataclassInstance")
_Shape = dict[str, Any]  # a field's name, and for an object its fields in turn

_LIMITS: _Shape = dict.fromkeys(
    (
        *("memory_max_bytes", "memory_high_bytes", "cpu_quota_percent", "cpu_weight", "io_weight", "tasks_max"),
        *("runtime_max_seconds", "nice"),
    ),
    None,
)
_COST: _Shape = dict.fromkeys(("cpu_seconds", "memory_peak_bytes", "read_bytes", "written_bytes", "oom_kills"), None)
_END: _Shape = {
    **dict.fromkeys(("cause", "exit_code", "signal", "last_lines"), None),
    "cost": _COST,
    "limits": _LIMITS,
}
# what 0.1.0 reads; never to be changed
_FIRST: _Shape = {
    **dict.fromkeys(("format", "id", "name", "flow_name", "nonce", "step", "boot_id", "due", "claimed_at"), None),
    **dict.fromkeys(("launcher", "unit", "version", "task_runs", "sends_heartbeat"), None),
    "process": dict.fromkeys(("pid", "start_ticks", "boot_id"), None),
    "limits": _LIMITS,
    "end": _END,
}
_FIRST_LAUNCHERS = frozenset({"", "process", "scope"})
_FIRST_HANDLE = {"version": 1}  # with `process` and `unit`: what these two launchers find a flow run by
_FIRST_CAUSES = frozenset(
    {
        *("exited", "signalled", "out-of-memory", "deadline", "cancelled", "stopped", "shutdown", "power-lost"),
        *("never-started", "vanished"),
    }
)


class NewerFormatError(ValueError):
    """A later version wrote it, with fields that mean something else."""


def lines_of(record: Record) -> bytes:
    """Return a record as the lines to add to its file, each on a line of its own even after one that was cut off."""
    obj = _as_json(record)
    if record.unknown:
        obj = _merged(record.unknown, obj)
    first, more = _split(obj, _FIRST)
    if first["end"] and first["end"]["cause"] not in _FIRST_CAUSES:
        more["end"] = {**more.get("end", {}), "cause": first["end"]["cause"]}
        first["end"]["cause"] = Cause.VANISHED.value
    more = {name: value for name, value in more.items() if value is not None}  # as it is where nothing is said
    added = f"\n{_MORE}{json.dumps(more)}" if more else ""
    return f"{added}\n{json.dumps(first)}".encode()


def record_in(content: bytes) -> Record:
    """Return the record that a file's content is. Raise ValueError where it is none."""
    try:
        return _from_text(content.decode())
    except NewerFormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _from_text(text: str) -> Record:
    """Return the record in the last whole line, with what the line before it adds."""
    lines = text.splitlines()
    for number in reversed(range(len(lines))):
        with contextlib.suppress(json.JSONDecodeError):
            return _from_json(_merged(json.loads(lines[number]), _more_in(lines[number - 1] if number else "")))
    raise ValueError("no line of it is whole")


def _more_in(line: str) -> dict[str, Any]:
    if not line.startswith(_MORE):
        return {}
    more = json.loads(line.removeprefix(_MORE))
    return more if isinstance(more, dict) else {}


def _from_json(obj: dict[str, Any]) -> Record:
    version = obj["format"]
    if not isinstance(version, int) or version < 1:
        raise ValueError("another format")
    if version > FORMAT:
        raise NewerFormatError(f"its format is {version}, and this version knows {FORMAT}")
    known = {
        **obj,
        "handle": _handle(obj),
        "step": Step(obj["step"]),
        "due": datetime.fromisoformat(obj["due"]),
        "claimed_at": datetime.fromisoformat(obj["claimed_at"]),
        "limits": _made(Limits, obj["limits"]) if obj["limits"] else None,
        "end": _end(obj["end"]) if obj["end"] else None,
        "backend": str(obj.get("backend", _FIRST_BACKEND)),
        "ticket": {
            **(obj.get("ticket") or {}),
            **{name: obj[name] for name, usual in _FIRST_TICKET.items() if obj[name] != usual},
        },
    }
    record = _made(Record, known)
    return dataclasses.replace(record, unknown=_split(obj, _shape_of(_as_json(record)))[1])


def _handle(obj: dict[str, Any]) -> dict[str, Any]:
    """Return the handle in a record: what is said as 0.1.0 does, with what a later version added to it."""
    handle, process, unit = obj.get("handle", {}), obj["process"], obj["unit"]
    if not isinstance(handle, dict):
        raise TypeError("handle")
    if process:
        _made(ProcessIdentity, process)  # raises where it is none
    return {**_FIRST_HANDLE, **handle, "process": process, "unit": unit} if process or unit else handle


def _as_first(handle: Mapping[str, Any]) -> dict[str, Any]:
    """Return a handle of the launchers that 0.1.0 has in its fields, and what it does not know in one of ours."""
    fields = {"unit": handle.get("unit", ""), "process": handle.get("process")}
    more = {name: value for name, value in handle.items() if name not in fields and _FIRST_HANDLE.get(name) != value}
    return {**fields, "handle": more} if more else fields


def _end(obj: dict[str, Any]) -> End:
    known = {
        **obj,
        "cause": Cause(obj["cause"]),
        "cost": _made(Cost, obj["cost"]),
        "limits": _made(Limits, obj["limits"]) if obj["limits"] else None,
        "last_lines": tuple(obj["last_lines"]),
    }
    return _made(End, known)


def _made(kind: type[_Made], obj: Mapping[str, Any]) -> _Made:
    """Make an object of the fields that it knows."""
    names = {field.name for field in dataclasses.fields(kind)} - {"unknown"}
    return kind(**{name: value for name, value in obj.items() if name in names})


def _as_json(record: Record) -> dict[str, Any]:
    obj: dict[str, Any] = {}
    for name, value in _fields_of(record).items():
        if name == "handle":  # in the place in which 0.1.0 has its fields
            obj |= _as_first(value) if record.launcher in _FIRST_LAUNCHERS else {**_as_first({}), "handle": value}
        elif name not in ("unknown", "ticket"):
            obj[name] = value
    ticket = record.ticket
    obj |= {name: ticket.get(name, usual) for name, usual in _FIRST_TICKET.items()}
    rest = {name: value for name, value in ticket.items() if name not in _FIRST_TICKET}
    obj |= {"sends_heartbeat": obj.pop("sends_heartbeat"), "format": _format_of(record)}  # the order is that of 0.1.0
    obj |= {"ticket": rest} if rest else {}
    obj["step"] = record.step.value
    obj["due"] = record.due.isoformat()
    obj["claimed_at"] = record.claimed_at.isoformat()
    if record.end is not None:
        obj["end"]["cause"] = record.end.cause.value
    return obj


def _format_of(record: Record) -> int:
    is_first = record.launcher in _FIRST_LAUNCHERS and record.backend in ("", _FIRST_BACKEND)
    return _FIRST_FORMAT if is_first else FORMAT


def _fields_of(one: DataclassInstance) -> dict[str, Any]:
    """Return what dataclasses.asdict does, without copies of what holds no dataclass: three times for each flow run."""
    values = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    return {
        name: _fields_of(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
        for name, value in values.items()
    }


def _merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Return both objects as one; of two values for a field `high` has the one that counts."""
    both = dict(low)
    for name, value in high.items():
        is_deep = isinstance(value, dict) and isinstance(both.get(name), dict)
        both[name] = _merged(both[name], value) if is_deep else value
    return both


def _split(obj: Mapping[str, Any], shape: _Shape) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is in an object of a shape, and the rest."""
    inside, rest = {}, {}
    for name, value in obj.items():
        if name not in shape:
            rest[name] = value
        elif isinstance(value, dict) and shape[name]:
            inside[name], more = _split(value, shape[name])
            if more:
                rest[name] = more
        else:
            inside[name] = value
    return inside, rest


def _shape_of(obj: Mapping[str, Any]) -> _Shape:
    return {name: _shape_of(value) if isinstance(value, dict) else None for name, value in obj.items()}
