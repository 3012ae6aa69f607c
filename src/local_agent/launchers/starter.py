"""What starts the process that waits at a flow run's gate.

`ShellStarter` executes shim.sh, for a millisecond. Whoever fulfils `Starter` may do it another way, as by a fork of an
interpreter that has imported already what flow runs need; the rest of a flow run's life is the same.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from local_agent.launchers.environment import environment_file, is_plain
from local_agent.linux.domain import started_apart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_agent.model import Child

SHIM = Path(__file__).with_name("shim.sh")
# nothing of the agent's environment or the flow run's acts on the shim: no BASH_ENV, no LD_PRELOAD, no other PATH
SHIM_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_SHELL = "/bin/sh"
PERL = "/usr/bin/perl"
# whatever this agent ignores, or was told to ignore by who started it, the flow run gets as if from a login; but a
# write to a journal that is gone for a moment must not end it: SIGPIPE is ignored, as for every service of systemd
_DEFAULT_SIGNALS = frozenset(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE})


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which the shim runs the flow run: in a cgroup of its own or not, for how long at most, how nice.

    `token` is a word that nobody knows but the agent, its record and the shim. `open_files` is the limit of open files,
    soft and hard; None leaves this process's own, which was raised.
    """

    token: str
    own_cgroup: bool
    runtime_max_seconds: float | None = None
    nice: int | None = None
    open_files: tuple[int, int] | None = None

    def as_words(self) -> tuple[str, str]:
        """Return them as the shim takes them."""
        allowed = self.runtime_max_seconds
        return "own" if self.own_cgroup else "shared", f"{allowed:.3f}" if allowed is not None else ""


class Started(Protocol):
    """A process that was started. Until `reap` its pid is nobody else's, even at its end."""

    @property
    def pid(self) -> int:
        """It leads a session and a process group of this number."""

    def has_ended(self) -> bool:
        """Tell whether it has ended; its status stays to be taken."""

    def reap(self) -> int | None:
        """Wait for its end and take its exit status, negative for a signal. None where nobody can tell it."""


class Starter(Protocol):
    """One way to start a shim."""

    async def start(self, base: Path, child: Child, conditions: Conditions, gate: int, output: int) -> Started:
        """Start a process that does what shim.sh does: in a session of its own, waiting at its gate.

        It reads `gate`, its stdout and stderr are `output`, it writes `base`.exit; the descriptors stay the caller's.
        The child has a folder. When this raises, nothing is left: LaunchError where no process can have the child's
        environment, OSError where this machine is at a limit.
        """


class ShellStarter:
    """Executes shim.sh. Where there is no `perl`, Python does its part."""

    def __init__(self, perl: str = PERL) -> None:
        self._perl = perl

    async def start(self, base: Path, child: Child, conditions: Conditions, gate: int, output: int) -> Started:
        """Spawn it, with the environment in a file in memory on its descriptor 3."""
        way, *enter = _enter(child.env, conditions, self._perl)
        environment = environment_file(child.env, for_shell=way == "plain")
        try:
            words = (str(base), *conditions.as_words(), way, *enter, str(child.working_dir), *child.argv)
            return _Spawned(started_apart(lambda: _spawn(words, (gate, output, output, environment))))
        finally:
            os.close(environment)


@dataclass(frozen=True, slots=True)
class _Spawned:
    """A child of this process that nobody else waits for."""

    pid: int

    def has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def reap(self) -> int | None:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _spawn(words: tuple[str, ...], descriptors: tuple[int, int, int, int]) -> int:
    """Start the shim with these descriptors as 0 to 3. Raise OSError."""
    # half the cost of subprocess.Popen (Python 3.11); other descriptors: keep_descriptors
    return os.posix_spawn(
        _SHELL,
        (_SHELL, str(SHIM), *words),
        SHIM_ENV,
        file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(descriptors)],
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULT_SIGNALS,
    )


def _enter(env: Mapping[str, str], conditions: Conditions, perl: str) -> tuple[str, ...]:
    """Return how the shim becomes the flow run: the way, and the command for it (shim.sh).

    The plain way costs nothing more than the shell that is there already. It knows no errno by itself, so it needs
    perl behind it; and timeout(1) starts programs only.
    """
    if not os.access(perl, os.X_OK):
        return "entered", sys.executable, "-I", "-S", str(SHIM.with_name("enter.py"))
    is_simple = _is_dash() and conditions.runtime_max_seconds is None and is_plain(env)
    return "plain" if is_simple else "entered", perl, str(SHIM.with_name("enter.pl"))


def _is_dash() -> bool:
    """Tell whether the shell is dash, as on every Debian."""
    try:
        return os.readlink(_SHELL) in ("dash", "/bin/dash", "/usr/bin/dash")  # noqa: PTH115 - for each launch
    except OSError:
        return False
