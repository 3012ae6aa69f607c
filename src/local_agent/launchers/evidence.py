"""How a flow run ended, put together from what is there: the shim's exit record, its status, the scope's Result.

Any of them may be missing: a SIGKILL to everything leaves no record, a success leaves no scope, a restarted agent is
no parent. A file may also be gone, cut off or somebody else's words, and what it then says or leaves out starts no flow
run again. Only these say that a flow run never began:

    this life of the agent never opened the gate, or met nobody behind it
    an earlier process had the gate, and the shim says with the token that it never opened
    the shim says with the token that the flow run could not begin, and the error is a passing one

For all else the gate was opened, or may have been: the shim's verdict counts, then its exit status, and without either
the flow run has VANISHED. `Cause` of every combination: tests/unit/launchers/test_evidence_table.py.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from local_agent.errors import StateError, is_lasting
from local_agent.model import Cause, Cost, End
from local_agent.plain import last_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from local_agent.limits import Limits

_SIGNAL_BASE = 128  # sh reports an end by signal as 128 + its number
_USEC = 1_000_000
_GATE_OPENED = "started\n"
_MAX_BYTES = 64 * 1024  # io.stat has a line for each device
_MAX_DIGITS = 19
_MAX_CODE = 255


class Gate(Enum):
    """What this life of the agent knows of a shim's gate for certain."""

    SHUT = "shut"  # it never opened it, or nobody was behind it
    OPENED = "opened"
    UNKNOWN = "unknown"  # an earlier process had it, and its record says that it was about to open it


class Verdict(Enum):
    """What the shim says of its command."""

    EXIT = "exit"
    OVERRAN = "overran"
    NEVER_STARTED = "never-started"  # the gate never opened
    UNABLE = "unable"  # the gate opened and the command could not begin


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """What the shim wrote at its end. `token` is there where the flow run did not begin, `errno` where it could not."""

    verdict: Verdict
    code: int | None = None
    stopped: bool = False
    cost: Cost = field(default_factory=Cost)
    token: str = ""
    errno: int = 0


@dataclass(frozen=True, slots=True)
class Traces:
    """Everything that can tell how a flow run ended. `token` is the one that its shim was given."""

    record: ExitRecord | None
    gate: Gate = Gate.UNKNOWN
    token: str = ""
    shim_status: int | None = None  # as subprocess has it: negative for a signal
    result: str = ""  # the scope's
    same_boot: bool = True
    shutting_down: bool = False
    cancelled: bool = False
    dies_with_service: bool = False  # it lives in the cgroup of the agent's service, and systemd ends all of that
    limits: Limits | None = None
    last_lines: Callable[[], tuple[str, ...]] = tuple  # asked only where they help

    @property
    def is_clean(self) -> bool:
        """Whether the exit record alone tells all: the flow run's process ended by itself with 0."""
        record = self.believed
        return record is not None and record.verdict is Verdict.EXIT and record.code == 0

    @property
    def tells_all(self) -> bool:
        """Whether the scope's Result can add nothing to the exit record: nobody stopped it, no memory lacked."""
        record = self.believed
        return record is not None and not record.stopped and not record.cost.oom_kills

    @property
    def believed(self) -> ExitRecord | None:
        """Return the exit record, None where something that is certain speaks against it."""
        return self.record if self.record is not None and self._may_be_true(self.record) else None

    def _may_be_true(self, record: ExitRecord) -> bool:
        if record.verdict is Verdict.NEVER_STARTED:
            return self.gate is not Gate.OPENED and record.token == self.token
        if record.verdict is Verdict.UNABLE and record.token != self.token:
            return False
        # the shim exits with the code that it writes down; where it was killed its status says nothing of its command
        return self.shim_status is None or self.shim_status < 0 or self.shim_status == record.code


def read_exit_record(base: Path) -> tuple[ExitRecord | None, bool]:
    """Given the path of a run's files, return what the shim wrote at the end, and whether it says that its gate opened.

    None where it wrote nothing, was cut off, or where something lies there that no shim makes: a link, a pipe, a
    device. Raise StateError where that cannot be told.
    """
    text = _text_of(f"{base}.exit")
    passed_gate = text.startswith(_GATE_OPENED)
    record = parse_exit_record(text.removeprefix(_GATE_OPENED))
    if passed_gate and record is not None and record.verdict is Verdict.NEVER_STARTED:
        record = None
    return record, passed_gate


def _text_of(path: str) -> str:
    """Return what is in a file, "" where there is no plain one. Neither a pipe nor an endless device holds this up."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if is_lasting(error.errno) or error.errno == errno.ENXIO:
            return ""
        raise StateError(f"cannot read {path}: {error.strerror}") from error
    try:
        is_plain = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return os.read(descriptor, _MAX_BYTES).decode(errors="replace") if is_plain else ""
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)


def remove_exit_record(base: Path) -> None:
    """Remove what the shim wrote. Raise StateError where that does not work; a folder in its place is left there."""
    try:
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(f"{base}.exit")  # noqa: PTH108 - pathlib interns the name of every run
    except OSError as error:
        raise StateError(f"cannot remove {base}.exit: {error.strerror}") from error


def parse_exit_record(text: str) -> ExitRecord | None:
    """Given the shim's words, return them; None where they were cut off before the first line ended, or are not its."""
    lines = text.split("\n")
    words = lines[0].split()
    verdict = _VERDICTS.get(words[0]) if len(lines) > 1 and words else None
    if verdict is None:
        return None
    token, number = "", 0
    if verdict in (Verdict.NEVER_STARTED, Verdict.UNABLE):
        token = words[1] if len(words) > 1 else ""
    if verdict is Verdict.UNABLE:
        number = (_number(words[2]) if len(words) > 2 else None) or 0
    return ExitRecord(
        verdict=verdict,
        code=_code(words[_CODE_PLACES[verdict] :]),
        stopped="stopped yes" in lines[:3],
        cost=_cost(_figures(lines[1:]), [line for line in lines if line.startswith("io.stat ")]),
        token=token,
        errno=number,
    )


_VERDICTS = {verdict.value: verdict for verdict in Verdict}
_CODE_PLACES = {Verdict.EXIT: 1, Verdict.OVERRAN: 1, Verdict.NEVER_STARTED: 2, Verdict.UNABLE: 3}


def _code(words: list[str]) -> int | None:
    code = _number(words[0]) if words else None
    return code if code is not None and code <= _MAX_CODE else None


def conclude(traces: Traces) -> End:
    """Decide how the flow run ended."""
    record = traces.believed
    code = record.code if record else _from_status(traces.shim_status)
    cause = _cause(traces, record, code)
    return End(
        cause=cause,
        exit_code=code if cause is Cause.EXITED else None,
        signal=_signal(code),
        cost=record.cost if record else Cost(),
        limits=traces.limits,
        last_lines=last_words(traces.last_lines()) if cause is Cause.EXITED and code else (),
    )


def _cause(traces: Traces, record: ExitRecord | None, code: int | None) -> Cause:
    if traces.gate is Gate.SHUT or (record is not None and record.verdict is Verdict.NEVER_STARTED):
        return Cause.NEVER_STARTED
    if traces.is_clean:
        return Cause.EXITED
    special = _special_cause(traces, record, code)
    if record is not None and _is_to_begin_again(record, special):
        return Cause.NEVER_STARTED
    if special is not None:
        return special
    if code is None:
        return Cause.VANISHED if traces.same_boot else Cause.POWER_LOST
    return Cause.SIGNALLED if _signal(code) else Cause.EXITED


def _is_to_begin_again(record: ExitRecord, special: Cause | None) -> bool:
    """Tell whether a flow run that could not begin may do so later: not where the same error meets it the next time."""
    passes = record.verdict is Verdict.UNABLE and not is_lasting(record.errno)
    return passes and special in (None, Cause.SHUTDOWN, Cause.SERVICE_STOPPED)


def _special_cause(traces: Traces, record: ExitRecord | None, code: int | None) -> Cause | None:
    """Return the cause where the end was brought about by something that is known, in order of certainty."""
    killed_for_memory = record is not None and record.cost.oom_kills > 0 and _signal(code) is not None
    if traces.result == "oom-kill" or killed_for_memory:
        return Cause.OUT_OF_MEMORY
    if traces.result == "timeout" or (record is not None and record.verdict is Verdict.OVERRAN):
        return Cause.DEADLINE
    if traces.cancelled:
        return Cause.CANCELLED
    asked_to_stop = record is not None and record.stopped
    if traces.shutting_down and (asked_to_stop or record is None):
        return Cause.SHUTDOWN
    if asked_to_stop and not traces.same_boot:
        return Cause.SHUTDOWN  # no agent ran at its end, and the machine went down before one did again
    if asked_to_stop:
        return Cause.SERVICE_STOPPED if traces.dies_with_service else Cause.STOPPED
    return None


def _signal(code: int | None) -> int | None:
    return code - _SIGNAL_BASE if code is not None and _SIGNAL_BASE < code <= _SIGNAL_BASE + 64 else None


def _from_status(status: int | None) -> int | None:
    return _SIGNAL_BASE - status if status is not None and status < 0 else status


def _figures(lines: list[str]) -> Mapping[str, int]:
    figures = {}
    for line in lines:
        words = line.split()
        number = _number(words[-1]) if len(words) >= 2 else None
        if number is not None:
            figures[" ".join(words[:-1])] = number
    return figures


def _number(word: str) -> int | None:
    """Return a number that the kernel or the shim may have written, None for anything else."""
    return int(word) if len(word) <= _MAX_DIGITS and word.isascii() and word.isdigit() else None


def _cost(figures: Mapping[str, int], io_lines: list[str]) -> Cost:
    usage = figures.get("cpu.stat usage_usec")
    return Cost(
        cpu_seconds=usage / _USEC if usage is not None else None,
        memory_peak_bytes=figures.get("memory.peak"),
        read_bytes=_io_sum(io_lines, "rbytes"),
        written_bytes=_io_sum(io_lines, "wbytes"),
        oom_kills=figures.get("memory.events oom_kill", 0),
    )


def _io_sum(io_lines: list[str], key: str) -> int | None:
    """Sum one figure over all devices; a line is `io.stat 8:0 rbytes=1 wbytes=2 ...`."""
    words = (word for line in io_lines for word in line.split() if word.startswith(f"{key}="))
    values = [number for word in words if (number := _number(word.partition("=")[2])) is not None]
    return sum(values) if values else None
