"""How a flow run ended, put together from what is there: the shim's exit record, its status, the scope's Result.

Any of them may be missing: a SIGKILL to everything leaves no record, a success leaves no scope, a restarted agent is
no parent.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_agent.errors import StateError
from local_agent.model import Cause, Cost, End
from local_agent.plain import last_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from local_agent.limits import Limits

_SIGNAL_BASE = 128  # sh reports an end by signal as 128 + its number
_USEC = 1_000_000
_GATE_OPENED = "started\n"


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """What the shim wrote when its flow run had ended."""

    started: bool
    code: int | None
    stopped: bool
    overran: bool
    cost: Cost


@dataclass(frozen=True, slots=True)
class Traces:
    """Everything that can tell how a flow run ended."""

    record: ExitRecord | None
    passed_gate: bool
    shim_status: int | None = None  # as subprocess has it: negative for a signal
    result: str = ""  # the scope's
    same_boot: bool = True
    shutting_down: bool = False
    cancelled: bool = False
    limits: Limits | None = None
    last_lines: Callable[[], tuple[str, ...]] = tuple  # asked only where they help

    @property
    def is_clean(self) -> bool:
        """Whether the exit record alone tells all: the flow run's process ended by itself with 0."""
        return self.record is not None and self.record.started and self.record.code == 0


def read_exit_record(base: Path) -> tuple[ExitRecord | None, bool]:
    """Given the path of a run's files, return what the shim wrote at the end, and whether it passed its gate.

    None where it wrote nothing, or was cut off. Raise StateError where that cannot be read.
    """
    try:
        with open(f"{base}.exit", errors="replace") as file:  # noqa: PTH123 - pathlib interns the name of every run
            text = file.read()
    except FileNotFoundError:
        return None, False
    except OSError as error:
        raise StateError(f"cannot read {base}.exit: {error.strerror}") from error
    passed_gate = text.startswith(_GATE_OPENED)
    return parse_exit_record(text.removeprefix(_GATE_OPENED)), passed_gate


def remove_exit_record(base: Path) -> None:
    """Remove what the shim wrote."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{base}.exit")  # noqa: PTH108 - as above


def parse_exit_record(text: str) -> ExitRecord | None:
    """Given the shim's words, return them; None where they were cut off before the first line ended."""
    lines = text.split("\n")
    verdict = lines[0].split()
    if len(lines) < 2 or not verdict:
        return None
    figures = _figures(lines[1:])
    code = int(verdict[1]) if len(verdict) > 1 and verdict[1].isdigit() else None
    return ExitRecord(
        started=verdict[0] != "never-started",
        code=code,
        stopped="stopped yes" in lines[:3],
        overran=verdict[0] == "overran",
        cost=_cost(figures, [line for line in lines if line.startswith("io.stat ")]),
    )


def conclude(traces: Traces) -> End:
    """Decide how the flow run ended."""
    code = traces.record.code if traces.record else _from_status(traces.shim_status)
    cause = _cause(traces, code)
    return End(
        cause=cause,
        exit_code=code if cause is Cause.EXITED else None,
        signal=_signal(code),
        cost=traces.record.cost if traces.record else Cost(),
        limits=traces.limits,
        last_lines=last_words(traces.last_lines()) if cause is Cause.EXITED and code else (),
    )


def _cause(traces: Traces, code: int | None) -> Cause:
    record = traces.record
    if (record is not None and not record.started) or (traces.same_boot and not traces.passed_gate):
        return Cause.NEVER_STARTED
    if traces.is_clean:
        return Cause.EXITED
    special = _special_cause(traces, code)
    if special is not None:
        return special
    if code is None:
        return Cause.VANISHED if traces.same_boot else Cause.POWER_LOST
    return Cause.SIGNALLED if _signal(code) else Cause.EXITED


def _special_cause(traces: Traces, code: int | None) -> Cause | None:
    """Return the cause where the end was brought about by something that is known, in order of certainty."""
    record = traces.record
    killed_for_memory = record is not None and record.cost.oom_kills > 0 and _signal(code) is not None
    if traces.result == "oom-kill" or killed_for_memory:
        return Cause.OUT_OF_MEMORY
    if traces.result == "timeout" or (record is not None and record.overran):
        return Cause.DEADLINE
    if traces.cancelled:
        return Cause.CANCELLED
    asked_to_stop = record is not None and record.stopped
    if traces.shutting_down and (asked_to_stop or record is None):
        return Cause.SHUTDOWN
    if asked_to_stop and not traces.same_boot:
        return Cause.SHUTDOWN  # no agent ran at its end, and the machine went down before one did again
    return Cause.STOPPED if asked_to_stop else None


def _signal(code: int | None) -> int | None:
    return code - _SIGNAL_BASE if code is not None and _SIGNAL_BASE < code <= _SIGNAL_BASE + 64 else None


def _from_status(status: int | None) -> int | None:
    return _SIGNAL_BASE - status if status is not None and status < 0 else status


def _figures(lines: list[str]) -> Mapping[str, int]:
    figures = {}
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[-1].isdigit():
            figures[" ".join(words[:-1])] = int(words[-1])
    return figures


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
    values = [
        int(word.partition("=")[2])
        for line in io_lines
        for word in line.split()
        if word.startswith(f"{key}=") and word.partition("=")[2].isdigit()
    ]
    return sum(values) if values else None
