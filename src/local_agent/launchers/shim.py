"""The shim's process: started at the gate, let through it, watched to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from typing import TYPE_CHECKING

from local_agent.errors import ExhaustedError
from local_agent.launchers.evidence import Gate
from local_agent.launchers.starter import SHIM
from local_agent.linux.procfs import children_of, identity_of, is_alive, is_gone, parent_of

if TYPE_CHECKING:
    from pathlib import Path

    from local_agent.launchers.starter import Conditions, Started, Starter
    from local_agent.model import Child, ProcessIdentity

_ABANDON_SECONDS = 5.0
# how long an execve(2) may take; a shim whose files are still shut only keeps this process's rank with the OOM killer
_SEEN_SECONDS, _OPEN_SECONDS = 5.0, 0.25
_EXECUTING_SECONDS = 0.0002


class Shim:
    """One shim, of this life of the agent or adopted from an earlier one. Holds descriptors until `close`."""

    def __init__(self, identity: ProcessIdentity, pidfd: int, gate: int | None, started: Started | None) -> None:
        self.identity = identity
        self.gate = Gate.SHUT if started else Gate.UNKNOWN
        self._pidfd = pidfd
        self._gate = gate
        self._started = started
        self._is_reaped = False
        self._status: int | None = None
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, self._note_end)

    @classmethod
    async def launch(cls, starter: Starter, base: Path, child: Child, output: int, conditions: Conditions) -> Shim:
        """Start a shim that waits at its gate, in a session of its own. When this raises, nothing is left of it.

        `base` is the path of the run's record without its suffix; `output` takes the flow run's stdout and stderr.
        Raise LaunchError where no process can have the flow run's environment, ExhaustedError where this machine is at
        a limit.
        """
        spare = []  # no ExitStack: in a burst it is felt
        try:
            gate_read, gate_write = os.pipe2(os.O_CLOEXEC)
            spare += [gate_read, gate_write]
            os.write(gate_write, f"{conditions.token}\n".encode())
            shim = cls._watched(await starter.start(base, child, conditions, gate_read, output), gate_write)
            spare.remove(gate_write)
        except OSError as error:
            raise ExhaustedError(
                f"cannot start a process: {error.strerror or error}",
                hint="is a limit reached? processes (ulimit -u, TasksMax=), descriptors (ulimit -n), memory",
            ) from error
        finally:
            for descriptor in spare:
                os.close(descriptor)
        _reset_priorities(shim.identity.pid, conditions)
        return shim

    @classmethod
    def _watched(cls, started: Started, gate: int) -> Shim:
        """Hold a shim that was just started, or see it off. Nobody else reaps it: until then its pid is its own, even
        at its end."""
        try:
            return cls._holding(_identity_at_start(started), os.pidfd_open(started.pid), gate, started)
        except BaseException:
            os.kill(started.pid, signal.SIGKILL)  # it is not reaped yet: the pid is its own
            started.reap()
            raise

    @classmethod
    def _holding(cls, identity: ProcessIdentity, pidfd: int, gate: int | None, started: Started | None) -> Shim:
        try:
            return cls(identity, pidfd, gate, started)
        except BaseException:
            os.close(pidfd)
            raise

    @classmethod
    def adopt(cls, identity: ProcessIdentity) -> Shim | None:
        """Take up a shim that an earlier process of the agent started; None where it has ended.

        Raise ExhaustedError where that cannot be told now.
        """
        try:
            pidfd = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            return None
        except OSError as error:
            raise ExhaustedError(f"cannot hold process {identity.pid}: {error.strerror}") from error
        try:
            # looked at after the pidfd is held: from here on the pid cannot become somebody else's
            is_it = identity_of(identity.pid) == identity
        except BaseException:
            os.close(pidfd)
            raise
        if not is_it:
            os.close(pidfd)
            return None
        try:
            return cls._holding(identity, pidfd, None, None)
        except OSError as error:
            raise ExhaustedError(f"cannot watch process {identity.pid}: {error.strerror}") from error

    @property
    def holds_its_pid(self) -> bool:
        """Whether its pid, and so the number of its group, is certainly not somebody else's."""
        if self._started is not None:
            return not self._is_reaped
        return not self._ended.is_set() and identity_of(self.identity.pid) == self.identity

    def terminate_child(self) -> None:
        """Send SIGTERM to the flow run's own process, which the shim waits for. Before and after it nothing happens.

        Raise ExhaustedError where it cannot be found now.
        """
        for child in children_of(self.identity.pid):
            try:
                pidfd = os.pidfd_open(child)
            except OSError as error:
                if is_gone(error):
                    continue
                raise ExhaustedError(f"cannot hold process {child}: {error.strerror}") from error
            try:
                # asked after it is held: from here on the pid cannot become somebody else's
                if self.identity.pid == parent_of(child) and is_alive(self.identity):
                    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            except ProcessLookupError:
                continue
            finally:
                os.close(pidfd)

    def open_gate(self) -> None:
        """Let the flow run start. A shim that is gone already has ended, which its watcher will learn."""
        if self._gate is None:
            return
        with contextlib.suppress(BrokenPipeError):
            os.write(self._gate, b"open\n")
            self.gate = Gate.OPENED
        os.close(self._gate)
        self._gate = None

    async def ended(self) -> None:
        """Return when the process has ended. It may still be a zombie, whose pid is nobody else's."""
        await self._ended.wait()

    def reap(self) -> int | None:
        """After the end, take the exit status; None where this agent has not started it. Negative for a signal."""
        if self._started is not None and not self._is_reaped:
            self._status, self._is_reaped = self._started.reap(), True
        return self._status

    async def abandon(self) -> None:
        """Shut the gate for good and see the shim off: it ends by itself, without starting anything."""
        if self._gate is not None:
            os.close(self._gate)
            self._gate = None
        try:
            async with asyncio.timeout(_ABANDON_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            await self._ended.wait()
        self.close()

    def close(self) -> None:
        """Let go of the descriptors. A shim still at its gate then ends without starting anything."""
        if self._gate is not None:
            os.close(self._gate)
            self._gate = None
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._ended.is_set():
            self.reap()

    def _note_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self._ended.set()


def keep_descriptors() -> None:
    """Let no process that this one starts inherit a descriptor beyond the first three.

    Those that Python opens are closed on exec by themselves (PEP 446), and not what our own starter left open.
    """
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        with contextlib.suppress(OSError):  # the one that lists them is closed by now
            if int(name) > 2:
                os.set_inheritable(int(name), False)  # noqa: FBT003 - it takes no keyword


def _identity_at_start(started: Started) -> ProcessIdentity:
    """Return the identity of a process that was just started and is not reaped yet.

    posix_spawn returns while its execve(2) still goes on, and for so long the child is as shut as this process
    (dumps.forbid): where /proc hides what may not be traced (ProtectProc=invisible, hidepid=2) it is not there yet, and
    elsewhere its files are root's.
    """
    began, pid = time.monotonic(), started.pid
    while (identity := identity_of(pid)) is None:
        if started.has_ended():
            raise ExhaustedError("the flow run's shim ended at once", hint=f"is {SHIM} readable, and /bin/sh whole?")
        if time.monotonic() - began > _SEEN_SECONDS:
            raise ExhaustedError(
                "the flow run's shim cannot be seen in /proc", hint="does this user see its own there?"
            )
        time.sleep(_EXECUTING_SECONDS)
    while not _is_open(pid) and time.monotonic() - began < _OPEN_SECONDS:
        time.sleep(_EXECUTING_SECONDS)
    return identity


def _is_open(pid: int) -> bool:
    """Tell whether a child's files in /proc are this user's."""
    try:
        return os.stat(f"/proc/{pid}/stat").st_uid == os.geteuid()  # noqa: PTH116 - for each launch
    except OSError:
        return False


def _reset_priorities(pid: int, conditions: Conditions) -> None:
    """The agent may be protected from the OOM killer, favoured by the scheduler, open more files; its flow runs not."""
    with contextlib.suppress(OSError):
        _write(f"/proc/{pid}/oom_score_adj", b"0")
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, conditions.nice or 0)
    if conditions.open_files is not None:
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, conditions.open_files)


def _write(path: str, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)
