"""What goes over the broker's socket.

The socket is SOCK_SEQPACKET; each packet is one JSON object of at most 4096 bytes (answers: 65536). The broker speaks
first:

    {"hello": "<nonce>"}                        the caller is the main process of a local-agent@<instance>.service
    {"error": "not-allowed", "message": "..."}  it is not; the broker hangs up

The caller's first packet is {"hello": "<nonce>"} with the same nonce. It gets no answer; it proves, with the
credentials that the kernel adds, that the process that was looked at is the process that sends. Then come requests,
any number at once, each with an `id` of the caller's choice that its answer repeats. Who does not return the greeting
within 10 s is hung up on:

    {"id": 7, "do": "start", "flow_run": "<uuid>", "pid": 123, "description": "...", "stop_seconds": 10, "limits": {}}
    {"id": 7, "ok": {...}}
    {"id": 7, "error": "<code>", "message": "<for a person>"}

    do             also takes                                           ok
    start          pid, description, stop_seconds, limits               {}, once the process is in the scope
                   oom_policy (stop, continue or kill; may be left out)
    stop           -                                                    {}, once the scope is gone
    kill           signal (a number)                                    {}
    reset-failed   -                                                    {}
    tail           lines                                                {"lines": ["...", ...]}

How a scope stands, and whether the machine goes down, the bus tells everybody; what is done to a flow run by a person
(freeze, thaw, new limits) is done by systemctl.

`limits` has the keys of `units.properties.LIMITS` and no others. The scope is always flow-run-<uuid>.scope in the slice
of the caller's own instance, which is not part of any message. A scope that is not loaded is no error: it has ended.

When the broker ends (it does so after a minute without a packet) it takes no more packets, so that sending fails,
answers what it has taken, and hangs up. The next connection starts it again.
"""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass
from enum import Enum
from typing import Any

from local_agent.units.names import MAX_DESCRIPTION, description_of
from local_agent.units.properties import Property, checked_limits, limit_properties

SOCKET_PATH = "/run/local-agent/broker.socket"
MAX_REQUEST_BYTES = 4096
MAX_ANSWER_BYTES = 65536

_MAX_ID = 2**53
_MAX_PID = 2**22  # the kernel's own (proc(5), pid_max)
_MAX_STOP_SECONDS = 3600
_MAX_LINES = 100
_FLOW_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SIGNALS = frozenset(
    {
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGKILL, signal.SIGUSR1),
        *(signal.SIGUSR2, signal.SIGTERM, signal.SIGCONT, signal.SIGSTOP),
    }
)


class Code(Enum):
    """Why a request is refused."""

    BAD_MESSAGE = "bad-message"  # not a request at all; the broker hangs up
    BAD_REQUEST = "bad-request"  # a request with a wrong or unknown part
    NOT_ALLOWED = "not-allowed"  # the caller is no agent; without an id, the broker hangs up
    NOT_YOURS = "not-yours"  # a process or scope that is not the caller's instance's
    PROCESS_GONE = "process-gone"  # the process ended meanwhile; the scope may hold a stranger and was left alone
    REFUSED = "refused"  # systemd says no
    NOT_NOW = "not-now"  # nothing is wrong with it; the caller's service is not up, or others come first
    NO_ANSWER = "no-answer"  # systemd does not answer; what was asked may be done all the same
    BUSY = "busy"  # too many connections; the broker hangs up


class RefusedError(Exception):
    """A request is refused: a code for programs, a sentence for people."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Verb(Enum):
    """What can be asked."""

    START = "start"
    STOP = "stop"
    KILL = "kill"
    RESET_FAILED = "reset-failed"
    TAIL = "tail"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, every part of it checked. A part that its verb does not take has its default."""

    id: int
    verb: Verb
    flow_run: str = ""
    pid: int = 0
    description: str = ""
    stop_seconds: float = 0.0
    signal: int = 0
    lines: int = 0
    properties: tuple[Property, ...] = ()
    oom_policy: str = "stop"


_PARTS = {
    Verb.START: {"flow_run", "pid", "description", "stop_seconds", "limits"},
    Verb.KILL: {"flow_run", "signal"},
    Verb.TAIL: {"flow_run", "lines"},
}
_FLOW_RUN_ONLY = {"flow_run"}
_MAY_BE_LEFT_OUT = {Verb.START: {"oom_policy"}}
_OOM_POLICIES = ("stop", "continue", "kill")  # systemd.service(5)


def read_packet(packet: bytes) -> dict[str, Any]:
    """Given a packet, return its JSON object. Raise RefusedError (bad-message) for anything else."""
    try:
        message = json.loads(packet, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(Code.BAD_MESSAGE, "a packet is one JSON object") from error
    if not isinstance(message, dict):
        raise RefusedError(Code.BAD_MESSAGE, "a packet is one JSON object")
    return message


def read_id(message: dict[str, Any]) -> int:
    """Given a message, return its id. Raise RefusedError (bad-message) where it has none: nobody could be answered."""
    number = message.get("id")
    if not isinstance(number, int) or not _is_whole(number, 0, _MAX_ID):
        raise RefusedError(Code.BAD_MESSAGE, f"a request has an id, a whole number up to {_MAX_ID}")
    return number


def read_request(message: dict[str, Any]) -> Request:
    """Given a message with an id, return the request. Raise RefusedError (bad-request) naming what is wrong with it."""
    verb = _verb(message.get("do"))
    wanted = _PARTS.get(verb, _FLOW_RUN_ONLY)
    given = message.keys() - {"id", "do"}
    if not wanted <= given <= wanted | _MAY_BE_LEFT_OUT.get(verb, set()):
        raise _bad(f"{verb.value} takes {', '.join(sorted(wanted))} and no other part")
    return Request(
        id=read_id(message),
        verb=verb,
        flow_run=_flow_run(message["flow_run"]),
        pid=_whole("pid", message["pid"], 2, _MAX_PID) if "pid" in wanted else 0,
        description=_description(message["description"]) if "description" in wanted else "",
        stop_seconds=_stop_seconds(message["stop_seconds"]) if "stop_seconds" in wanted else 0.0,
        signal=_signal(message["signal"]) if "signal" in wanted else 0,
        lines=_whole("lines", message["lines"], 1, _MAX_LINES) if "lines" in wanted else 0,
        properties=_properties(message["limits"]) if "limits" in wanted else (),
        oom_policy=_oom_policy(message.get("oom_policy", "stop")),
    )


def encode(message: dict[str, Any]) -> bytes:
    """Return a message as a packet."""
    return json.dumps(message, separators=(",", ":")).encode()


def refusal_message(refusal: RefusedError, request_id: int | None = None) -> dict[str, Any]:
    """Return the answer that tells of a refusal."""
    answer = {"error": refusal.code.value, "message": refusal.message}
    return answer if request_id is None else {"id": request_id, **answer}


def _bad(message: str) -> RefusedError:
    return RefusedError(Code.BAD_REQUEST, message)


def _no_constant(name: str) -> float:
    raise ValueError(name)  # NaN and Infinity are not JSON


def _verb(value: object) -> Verb:
    try:
        return Verb(value)
    except ValueError as error:
        raise _bad(f"do is one of {', '.join(verb.value for verb in Verb)}") from error


def _flow_run(value: object) -> str:
    if not isinstance(value, str) or not _FLOW_RUN.fullmatch(value):
        raise _bad("flow_run is the id of a flow run, a UUID in lower case")
    return value


def _description(value: object) -> str:
    if not isinstance(value, str) or description_of(value) != value:
        raise _bad(
            f"description is at most {MAX_DESCRIPTION} printable characters, without the name of a service and without "
            "a backslash at its end"
        )
    return value


def _stop_seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MAX_STOP_SECONDS:
        raise _bad(f"stop_seconds is a number up to {_MAX_STOP_SECONDS}")
    return float(value)


def _oom_policy(value: object) -> str:
    if value not in _OOM_POLICIES:
        raise _bad(f"oom_policy is one of {', '.join(_OOM_POLICIES)}")
    return str(value)


def _signal(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in _SIGNALS:
        raise _bad(f"signal is one of {', '.join(str(int(number)) for number in sorted(_SIGNALS))}")
    return value


def _properties(value: object) -> tuple[Property, ...]:
    try:
        return tuple(limit_properties(checked_limits(value)))
    except ValueError as error:
        raise _bad(str(error)) from error


def _whole(name: str, value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or not _is_whole(value, least, most):
        raise _bad(f"{name} is a whole number from {least} to {most}")
    return value


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
