"""The shim's process: started at the gate, let through it, watched to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import LaunchError
from local_agent.procfs import identity_of

if TYPE_CHECKING:
    from local_agent.model import Child, ProcessIdentity

SHIM = Path(__file__).with_name("shim.sh")
_ABANDON_SECONDS = 5.0
# whatever this agent ignores, or was told to ignore by who started it, the flow run gets as if from a login
_DEFAULT_SIGNALS = frozenset(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


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

    def __init__(self, identity: ProcessIdentity, pidfd: int, gate: int | None, *, is_child: bool) -> None:
        self.identity = identity
        self._pidfd = pidfd
        self._gate = gate
        self._is_child = is_child
        self._status: int | None = None
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, self._note_end)

    @classmethod
    def spawn(cls, base: Path, child: Child, output: int, conditions: Conditions) -> Shim:
        """Start a shim that waits at its gate, in a session of its own. Raise LaunchError.

        `base` is the path of the run's record without its suffix; `output` takes the flow run's stdout and stderr.
        """
        gate_read, gate_write = os.pipe2(os.O_CLOEXEC)
        try:
            pid = _spawn(base, child, output, gate_read, conditions)
        except BaseException:
            os.close(gate_write)
            raise
        finally:
            os.close(gate_read)
        # nobody else reaps it: until then its pid is its own, even when it has ended
        identity = identity_of(pid)
        if identity is None:
            os.close(gate_write)
            raise LaunchError(f"the flow run's shim ended at once with {_wait(pid)}", hint=f"is {SHIM} readable?")
        _reset_priorities(pid, conditions.nice)
        return cls(identity, os.pidfd_open(pid), gate_write, is_child=True)

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
        return cls(identity, pidfd, None, is_child=False)

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
        if self._is_child and self._status is None:
            self._status = _wait(self.identity.pid)
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


def _spawn(base: Path, child: Child, output: int, gate: int, conditions: Conditions) -> int:
    words = ["/bin/sh", str(SHIM), str(base), *conditions.as_words(), str(child.working_dir), *child.argv]
    moves = [(os.POSIX_SPAWN_DUP2, source, target) for source, target in ((gate, 0), (output, 1), (output, 2))]
    try:
        os.close(os.open(child.working_dir / ".", os.O_PATH | os.O_CLOEXEC))  # may it be entered?
        # half the cost of subprocess.Popen (Python 3.11); other descriptors: keep_descriptors
        return os.posix_spawn(
            words[0], words, child.env, file_actions=moves, setsid=True, setsigmask=(), setsigdef=_DEFAULT_SIGNALS
        )
    except (OSError, ValueError) as error:
        raise LaunchError(
            f"cannot start the flow run's process in {child.working_dir}: {error}",
            hint="check the flow run's working_dir and its env",
        ) from error


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _reset_priorities(pid: int, nice: int | None) -> None:
    """The agent may be protected from the OOM killer and favoured by the scheduler; its flow runs are not."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("0")
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, nice or 0)
