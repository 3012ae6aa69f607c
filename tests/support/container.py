"""Boots a root file system with systemd-nspawn, in layers that vanish with it, and takes everything away again."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from support.cache import SetUpError, locked
from support.cgroups import remove_cgroup, systemd_runs_here, unified_hierarchy
from support.checkout import lay_out_checkout
from support.leftovers import start_ticks

_FOLDERS = Path("/run/local-agent-machines")
_PROPAGATE = Path("/run/systemd/nspawn/propagate")  # systemd-nspawn leaves a folder here when it is killed
_BOOT_SECONDS = 120.0
_END_SECONDS = 20.0
_NUMBERS = itertools.count(1)

# on a machine of its own anybody may; systemd-nspawn allows what it knows to be harmless
_ALSO_ALLOWED = "landlock_create_ruleset landlock_restrict_self pidfd_getfd"

# $1 a cgroup or nothing, $2 the folder for the mounts, $3 the layers below, $4... what boots it
_ENTER_MOUNT_EXEC = """\
set -eu
[ -z "$1" ] || { mkdir -p "$1/payload"; echo $$ >"$1/payload/cgroup.procs"; }
mount -t tmpfs -o mode=0755 tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$3,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
shift 3
exec "$@"
"""


class Container:
    """One boot of a root file system."""

    def __init__(
        self,
        root: Path,
        kind: str,
        lay_out: Callable[[Path], None] = lay_out_checkout,
        *,
        has_own_network: bool = False,
    ) -> None:
        """Given a root file system, a name, and what fills the layer above it.

        With a network of its own it has a loopback and nothing else, and every port is free.
        """
        self._root = root
        self._lay_out = lay_out
        self._network = ["--private-network"] if has_own_network else []
        self.hostname = kind
        self.name = f"{kind}-{os.getpid()}-{next(_NUMBERS)}"
        self._folder = _FOLDERS / self.name
        self._ends = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.leader_pid = 0

    def start(self) -> None:
        """Boot it and return when its systemd has started everything. Raise SetUpError with the console when not."""
        _require_root()
        with contextlib.ExitStack() as ends:
            with locked(_FOLDERS / "lock"):
                _remove_dead()
                self._make_folder(ends)
            ends.callback(self._end_processes)
            # closed when it is up: systemd-nspawn would hang on a socket that is full because nobody reads it
            with _notify_socket(self._folder / "notify") as notices:
                self._process = self._boot()
                self._wait_until_up(notices)
            self._ends = ends.pop_all()

    def stop(self) -> None:
        """End every process in it at once, as a power cut does, and remove all that it had on this machine."""
        self._ends.close()

    def wait_down(self, *, timeout_seconds: float = 60.0) -> None:
        """Return when it has powered itself off."""
        assert self._process is not None
        self._process.wait(timeout_seconds)

    def console(self) -> str:
        """Return what was printed on its console."""
        return (self._folder / "console").read_text(errors="replace")

    def enter(self) -> list[str]:
        """Return the words to put before a command that shall run inside, in the cgroup of its PID 1.

        From a cgroup outside, logind and others could not tell who asks.
        """
        cgroup = Path("/proc", str(self.leader_pid), "cgroup").read_text().rpartition("0::/")[2].strip()
        script = 'echo $$ >"$1/cgroup.procs" && shift && exec nsenter "$@"'
        joined = ["sh", "-c", script, "sh", str(unified_hierarchy() / cgroup)]
        return [*joined, "-t", str(self.leader_pid), "-a", "--"]

    def _make_folder(self, ends: contextlib.ExitStack) -> None:
        self._folder.mkdir()
        ends.enter_context(_held(self._folder / "alive"))
        ends.callback(_remove, self.name)
        for name in ("layer", "mounts"):
            (self._folder / name).mkdir()
        self._lay_out(self._folder / "layer")

    def _boot(self) -> subprocess.Popen[bytes]:
        cgroup = "" if systemd_runs_here() else str(unified_hierarchy() / self.name)
        layers = f"{self._folder / 'layer'}:{self._root}"
        script = ["sh", "-c", _ENTER_MOUNT_EXEC, "sh", cgroup, str(self._folder / "mounts"), layers]
        command = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--propagation=private", *script]
        with (self._folder / "console").open("w") as console:
            return subprocess.Popen(
                [*command, *self._nspawn()],
                env={**os.environ, **self._environment()},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )

    def _nspawn(self) -> list[str]:
        own_cgroup = [] if systemd_runs_here() else ["--keep-unit"]
        return [
            *("systemd-nspawn", "--quiet", "--boot", f"--directory={self._folder / 'mounts/root'}"),
            *(f"--machine={self.name}", f"--hostname={self.hostname}", "--register=no", *own_cgroup),
            *self._network,
            *("--console=pipe", "--notify-ready=yes", "--link-journal=no"),
            f"--system-call-filter={_ALSO_ALLOWED}",
        ]

    def _environment(self) -> dict[str, str]:
        notify = str(self._folder / "notify")
        return {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "NOTIFY_SOCKET": notify}

    def _wait_until_up(self, notices: socket.socket) -> None:
        """systemd-nspawn tells the pid of the PID 1 inside, and then passes on its READY."""
        deadline = time.monotonic() + _BOOT_SECONDS
        assert self._process is not None
        while time.monotonic() < deadline and self._process.poll() is None:
            lines = _received(notices)
            for line in lines:
                if line.startswith("X_NSPAWN_LEADER_PID="):
                    self.leader_pid = int(line.partition("=")[2])
                    _note_leader(self._folder, self.leader_pid)
            if "READY=1" in lines:
                return
        raise SetUpError(f"{self.name} did not boot; its console:\n{self.console()[-4000:]}")

    def _end_processes(self) -> None:
        process = self._process
        if process is None:
            return
        if self.leader_pid and process.poll() is None:
            os.kill(self.leader_pid, signal.SIGKILL)  # the kernel ends the whole PID namespace with it
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
        process.kill()
        process.wait()


def _require_root() -> None:
    if os.geteuid() != 0:
        raise SetUpError("booting a Debian needs root: run the tests as root, or with sudo")
    if shutil.which("systemd-nspawn") is None:
        raise SetUpError("systemd-nspawn is missing; `make test` installs it, or: apt-get install systemd-container")


def _received(notices: socket.socket) -> list[str]:
    try:
        return notices.recv(4096).decode().splitlines()
    except TimeoutError:
        return []


@contextlib.contextmanager
def _notify_socket(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(path))
        notices.settimeout(0.5)
        yield notices


@contextlib.contextmanager
def _held(path: Path) -> Iterator[IO[str]]:
    """Hold a lock that the kernel lets go when this process dies."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _remove_dead() -> None:
    """Remove what is left of machines whose owner was killed."""
    for folder in _FOLDERS.iterdir():
        if folder.is_dir() and not _is_held(folder / "alive"):
            _remove(folder.name)


def _is_held(path: Path) -> bool:
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _remove(name: str) -> None:
    _kill_leader(_FOLDERS / name)
    remove_cgroup(name)
    shutil.rmtree(_PROPAGATE / name, ignore_errors=True)
    shutil.rmtree(_FOLDERS / name, ignore_errors=True)


def _note_leader(folder: Path, pid: int) -> None:
    (folder / "leader").write_text(f"{pid} {start_ticks(pid)}")


def _kill_leader(folder: Path) -> None:
    """End the PID 1 inside, if it is still that process: a newer systemd-nspawn that was killed leaves it running."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid, started = map(int, (folder / "leader").read_text().split())
        leader = os.pidfd_open(pid)
        try:
            if start_ticks(pid) == started:
                signal.pidfd_send_signal(leader, signal.SIGKILL)
                select.select([leader], [], [], _END_SECONDS)
        finally:
            os.close(leader)
