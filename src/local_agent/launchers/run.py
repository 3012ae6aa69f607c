"""What flow runs have in common, however they were launched: a shim, a record's files, an output."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from local_agent.errors import ExhaustedError
from local_agent.launchers import evidence
from local_agent.launchers.handle import ProcessHandle, handle_in
from local_agent.linux.procfs import boot_id
from local_agent.model import Step

if TYPE_CHECKING:
    from pathlib import Path

    from local_agent.aio.clock import Clock
    from local_agent.launchers.belongings import Belongings
    from local_agent.launchers.evidence import Traces
    from local_agent.launchers.output import Output
    from local_agent.launchers.shim import Shim
    from local_agent.limits import Limits
    from local_agent.linux.cgroup import Figures
    from local_agent.model import Handle, ProcessIdentity, Record


def may_live(record: Record) -> bool:
    """Tell whether a process of this machine can live still that was started by the time of a record."""
    return record.boot_id == boot_id()


def traces_left(record: Record, base: Path, output: Output) -> Traces:
    """Return what is left to tell how a flow run ended that nobody watched; `base` is its files' path without suffix.

    The gate of one that is still being claimed was never opened: the record that says running is on disk before that.
    Unless its shim says otherwise, for then that record is lost.
    """
    process = handle_in(record).process
    exit_record, passed_gate = evidence.read_exit_record(base)
    was_shut = record.step is Step.CLAIMING and not passed_gate
    return evidence.Traces(
        record=exit_record,
        gate=evidence.Gate.SHUT if was_shut else evidence.Gate.UNKNOWN,
        token=record.nonce,
        same_boot=process is None or process.boot_id == boot_id(),
        limits=record.limits,
        last_lines=lambda: output.last_lines(base),
    )


class ShimRun:
    """The part of a `LiveRun` that the shim and its files do.

    `unit` is its scope, "" for none.
    """

    def __init__(
        self,
        shim: Shim,
        record: Record,
        files: Belongings,
        limits: Limits | None,
        output: Output,
        clock: Clock,
        unit: str = "",
    ) -> None:
        self._handle = ProcessHandle(shim.identity, unit)
        self._shim = shim
        self._record = record
        self._files = files
        self._base = files.base_of(record.id)
        self._limits = limits
        self._output = output
        self._clock = clock
        self._cancelled = False

    @property
    def identity(self) -> ProcessIdentity:
        """The shim's process."""
        return self._shim.identity

    @property
    def handle(self) -> Handle:
        """The shim's process and the scope."""
        return self._handle.as_json()

    @property
    def where(self) -> str:
        """The scope and the shim's process."""
        return self._handle.where

    def usage(self) -> Figures | None:
        """Of plain processes nothing is counted."""
        return None

    def end_if_outside(self) -> str:
        """Nothing holds it anywhere."""
        return ""

    def open_gate(self) -> None:
        """Let it start."""
        self._shim.open_gate()

    async def abandon(self) -> None:
        """Shut the gate, and leave nothing."""
        await self._shim.abandon()
        await self.release()

    async def ended(self) -> None:
        """Wait for the shim's end."""
        await self._shim.ended()

    def detach(self) -> None:
        """Let go of the descriptors."""
        self._shim.close()

    def interrupt(self) -> None:
        """Tell it by its pipe, or by SIGTERM where nobody listens there."""
        self._cancelled = True
        if not self._files.interrupt(self._record):
            with contextlib.suppress(ExhaustedError):
                self._shim.terminate_child()

    async def release(self) -> None:
        """Close the pidfd, remove the files."""
        self.detach()
        await self._files.remove(self._record)

    def _traces(self, *, result: str = "", shutting_down: bool = False) -> Traces:
        """Return everything that is left to tell how it ended."""
        exit_record, _ = evidence.read_exit_record(self._base)
        return evidence.Traces(
            record=exit_record,
            gate=self._shim.gate,
            token=self._record.nonce,
            shim_status=self._shim.reap(),
            result=result,
            shutting_down=shutting_down,
            cancelled=self._cancelled,
            limits=self._limits,
            last_lines=lambda: self._output.last_lines(self._base),
        )
