"""The shim's process: started at the gate, let through it, watched to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import ExhaustedError
from local_agent.launchers.environment import environment_file, is_plain
from local_agent.launchers.evidence import Gate
from local_agent.linux.procfs import children_of, identity_of, is_alive, is_gone, parent_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_agent.model import Child, ProcessIdentity

SHIM = Path(__file__).with_name("shim.sh")
# nothing of the agent's environment or the flow run's acts on the shim: no BASH_ENV, no LD_PRELOAD, no other PATH
SHIM_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_SHELL = "/bin/sh"
PERL = "/usr/bin/perl"
_ABANDON_SECONDS = 5.0
# how long an execve(2) may take; a shim whose files are still shut only keeps this process's rank with the OOM killer
_SEEN_SECONDS, _OPEN_SECONDS = 5.0, 0.25
_EXECUTING_SECONDS = 0.0002
# whatever this agent ignores, or was told to ignore by who started it, the flow run gets as if from a login; but a
# write to a journal that is gone for a moment must not end it: SIGPIPE is ignored, as for every service of systemd
_DEFAULT_SIGNALS = frozenset(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE})


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which the shim runs the flow run: in a cgroup of its own or not, for how long at most, how nice.

    `token` is a word that nobody knows but the agent, its record and the shim. Where `perl` is none, Python does its
    part. `open_files` is the limit of open files, soft and hard; None leaves this process's own, which was raised.
    """

    token: str
    own_cgroup: bool
    perl: str = PERL
    runtime_max_seconds: float | None = None
    nice: int | None = None
    open_files: tuple[int, int] | None = None

    def as_words(self) -> tuple[str, str]:
        """Return them as the shim takes them."""
        allowed = self.runtime_max_seconds
        return "own" if self.own_cgroup else "shared", f"{allowed:.3f}" if allowed is not None else ""


class Shim:
    """One shim, of this life of the agent or adopted from an earlier one. Holds descriptors until `close`."""

    def __init__(self, identity: ProcessIdentity, pidfd: int, gate: int | None, *, is_child: bool) -> None:
        self.identity = identity
        self.gate = Gate.SHUT if is_child else Gate.UNKNOWN
        self._pidfd = pidfd
        self._gate = gate
        self._is_child = is_child
        self._status: int | None = None
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, self._note_end)

    @classmethod
    def spawn(cls, base: Path, child: Child, output: int, conditions: Conditions) -> Shim:
        """Start a shim that waits at its gate, in a session of its own. When this raises, nothing is left of it.

        `base` is the path of the run's record without its suffix; `output` takes the flow run's stdout and stderr.
        Raise LaunchError where no process can have the flow run's environment, ExhaustedError where this machine is at
        a limit.
        """
        assert child.working_dir is not None  # belongings.py has made one
        spare = []  # no ExitStack: in a burst it is felt
        try:
            gate_read, gate_write = os.pipe2(os.O_CLOEXEC)
            spare += [gate_read, gate_write]
            os.write(gate_write, f"{conditions.token}\n".encode())
            way, *command = _enter(child.env, conditions)
            environment = environment_file(child.env, for_shell=way == "plain")
            spare.append(environment)
            how = (*conditions.as_words(), way, *command)
            pid = _spawn(base, (str(child.working_dir), *child.argv), (gate_read, output, output, environment), how)
            shim = cls._watched(pid, gate_write)
            spare.remove(gate_write)
        except OSError as error:
            raise ExhaustedError(
                f"cannot start a process: {error.strerror or error}",
                hint="is a limit reached? processes (ulimit -u, TasksMax=), descriptors (ulimit -n), memory",
            ) from error
        finally:
            for descriptor in spare:
                os.close(descriptor)
        _reset_priorities(pid, conditions)
        return shim

    @classmethod
    def _watched(cls, pid: int, gate: int) -> Shim:
        """Hold a shim that was just started, or see it off. Nobody else reaps it: until then its pid is its own, even
        at its end."""
        try:
            return cls._holding(_identity_at_start(pid), os.pidfd_open(pid), gate, is_child=True)
        except BaseException:
            _see_off(pid)
            raise

    @classmethod
    def _holding(cls, identity: ProcessIdentity, pidfd: int, gate: int | None, *, is_child: bool) -> Shim:
        try:
            return cls(identity, pidfd, gate, is_child=is_child)
        except BaseException:
            os.close(pidfd)
            raise

    @classmethod
    def adopt(cls, identity: ProcessIdentity) -> Shim | None:
        """Take up a shim that an earlier life of the agent started; None where it has ended.

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
            return cls._holding(identity, pidfd, None, is_child=False)
        except OSError as error:
            raise ExhaustedError(f"cannot watch process {identity.pid}: {error.strerror}") from error

    @property
    def holds_its_pid(self) -> bool:
        """Whether its pid, and so the number of its group, is certainly not somebody else's."""
        if self._is_child:
            return self._status is None
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


def _spawn(base: Path, command: tuple[str, ...], descriptors: tuple[int, int, int, int], how: tuple[str, ...]) -> int:
    """Start the shim with these descriptors as 0 to 3; `command` begins with its folder. Raise OSError."""
    words = [_SHELL, str(SHIM), str(base), *how, *command]
    # half the cost of subprocess.Popen (Python 3.11); other descriptors: keep_descriptors
    return os.posix_spawn(
        words[0],
        words,
        SHIM_ENV,
        file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(descriptors)],
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULT_SIGNALS,
    )


def _enter(env: Mapping[str, str], conditions: Conditions) -> tuple[str, ...]:
    """Return how the shim becomes the flow run: the way, and the command for it (shim.sh).

    The plain way costs nothing more than the shell that is there already. It knows no errno by itself, so it needs
    perl behind it; and timeout(1) starts programs only.
    """
    if not os.access(conditions.perl, os.X_OK):
        return "entered", sys.executable, "-I", "-S", str(SHIM.with_name("enter.py"))
    is_simple = _is_dash() and conditions.runtime_max_seconds is None and is_plain(env)
    return "plain" if is_simple else "entered", conditions.perl, str(SHIM.with_name("enter.pl"))


def _is_dash() -> bool:
    """Tell whether the shell is dash, as on every Debian."""
    try:
        return os.readlink(_SHELL) in ("dash", "/bin/dash", "/usr/bin/dash")  # noqa: PTH115 - for each launch
    except OSError:
        return False


def _identity_at_start(pid: int) -> ProcessIdentity:
    """Return the identity of a child that was just started and is not reaped yet.

    posix_spawn returns while its execve(2) still goes on, and for so long the child is as shut as this process
    (dumps.forbid): where /proc hides what may not be traced (ProtectProc=invisible, hidepid=2) it is not there yet, and
    elsewhere its files are root's.
    """
    began = time.monotonic()
    while (identity := identity_of(pid)) is None:
        if _has_ended(pid):
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


def _has_ended(pid: int) -> bool:
    """Tell whether a child that nobody reaped has ended; its status stays to be taken."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _see_off(pid: int) -> None:
    """End a shim at its gate that cannot be held, and take its status."""
    os.kill(pid, signal.SIGKILL)  # it is not reaped yet: the pid is its own
    _wait(pid)


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


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
