"""The shim's process: started at the gate, let through it, watched to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import LaunchError
from local_agent.procfs import identity_of

if TYPE_CHECKING:
    from local_agent.model import Child, ProcessIdentity

SHIM = Path(__file__).with_name("shim.sh")
_ABANDON_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which the shim runs the flow run: in a cgroup of its own or not, for how long at most, how nice."""

    own_cgroup: bool
    runtime_max_seconds: float | None = None
    nice: int | None = None

    def as_words(self) -> tuple[str, str]:
        """Return them as the shim takes them."""
        allowed = self.runtime_max_seconds
        return "own" if self.own_cgroup else "shared", f"{allowed:.0f}" if allowed is not None else ""


class Shim:
    """One shim, of this life of the agent or adopted from an earlier one. Holds descriptors until `close`."""

    def __init__(
        self, identity: ProcessIdentity, pidfd: int, gate: int | None, popen: subprocess.Popen[bytes] | None
    ) -> None:
        self.identity = identity
        self._pidfd = pidfd
        self._gate = gate
        self._popen = popen
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, self._note_end)

    @classmethod
    def spawn(cls, base: Path, child: Child, output: int, conditions: Conditions) -> Shim:
        """Start a shim that waits at its gate, in a session of its own. Raise LaunchError.

        `base` is the path of the run's record without its suffix; `output` takes the flow run's stdout and stderr.
        """
        gate_read, gate_write = os.pipe2(os.O_CLOEXEC)
        try:
            popen = _spawn(base, child, output, gate_read, conditions)
        except BaseException:
            os.close(gate_write)
            raise
        finally:
            os.close(gate_read)
        identity = identity_of(popen.pid)
        if identity is None:
            os.close(gate_write)
            raise LaunchError(f"the flow run's shim ended at once with {popen.wait()}", hint=f"is {SHIM} readable?")
        _reset_priorities(popen.pid, conditions.nice)
        return cls(identity, os.pidfd_open(popen.pid), gate_write, popen)

    @classmethod
    def adopt(cls, identity: ProcessIdentity) -> Shim | None:
        """Take up a shim that an earlier life of the agent started; None where it has ended."""
        try:
            pidfd = os.pidfd_open(identity.pid)
        except OSError:
            return None
        # looked at after the pidfd is held: from here on the pid cannot become somebody else's
        if identity_of(identity.pid) != identity:
            os.close(pidfd)
            return None
        return cls(identity, pidfd, None, None)

    def open_gate(self) -> None:
        """Let the flow run start. A shim that is gone already has ended, which its watcher will learn."""
        if self._gate is None:
            return
        with contextlib.suppress(BrokenPipeError):
            os.write(self._gate, b"open\n")
        os.close(self._gate)
        self._gate = None

    async def ended(self) -> None:
        """Return when the process has ended. It may still be a zombie, whose pid is nobody else's."""
        await self._ended.wait()

    def reap(self) -> int | None:
        """After the end, take the exit status; None where this agent is not its parent. Negative for a signal."""
        if self._popen is None:
            return None
        return self._popen.wait()

    async def abandon(self) -> None:
        """Shut the gate for good and see the shim off: it ends by itself, without starting anything."""
        if self._gate is not None:
            os.close(self._gate)
            self._gate = None
        try:
            async with asyncio.timeout(_ABANDON_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            os.kill(self.identity.pid, signal.SIGKILL)
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
        if self._popen is not None and self._ended.is_set():
            self._popen.wait()
        elif self._popen is not None:
            # it goes on without this agent, by design: no warning about a process still running
            self._popen.returncode = 0

    def _note_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self._ended.set()


def _spawn(base: Path, child: Child, output: int, gate: int, conditions: Conditions) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            ["/bin/sh", str(SHIM), str(base), *conditions.as_words(), *child.argv],
            stdin=gate,
            stdout=output,
            stderr=output,
            cwd=child.working_dir,
            env=dict(child.env),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise LaunchError(
            f"cannot start the flow run's process in {child.working_dir}: {error}",
            hint="check the flow run's working_dir and its env",
        ) from error


def _reset_priorities(pid: int, nice: int | None) -> None:
    """The agent may be protected from the OOM killer and favoured by the scheduler; its flow runs are not."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("0")
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, nice or 0)
