"""packaging/Containerfile without Docker: its steps run in a root file system, and its command as process 1.

The root is an overlay in memory, in a mount namespace that a process of ours holds; it goes with that process.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STEP_SECONDS = 300.0
_END_SECONDS = 60.0
_WHEELS = "/run/wheels"

# $1 a folder for the mounts, $2 the root below, $3 wheels; it says when all is there, and holds it until it is killed
_HOLD = f"""\
set -eu
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
mount --rbind /dev "$1/root/dev"
mkdir -p "$1/root{_WHEELS}"
mount --bind "$3" "$1/root{_WHEELS}"
echo there
exec sleep infinity
"""
# $1 the root, $2 a user or nothing, $3 a folder, $4... what to run in it as process 1 of a namespace of its own
_RUN = """\
set -eu
mount -t proc proc "$1/proc"
root=$1 user=$2 folder=$3
shift 3
exec chroot ${user:+--userspec="$user"} "$root" env -i --chdir="$folder" "$@"
"""
# pip finds here what it would fetch, and apt nothing that is not installed already
_OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": _WHEELS, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@dataclass(frozen=True)
class Step:
    """An instruction of a Containerfile and the rest of its line."""

    instruction: str
    text: str


def steps_of(containerfile: Path) -> list[Step]:
    """Return the instructions of a Containerfile, with continued lines joined."""
    lines = [line for line in containerfile.read_text().splitlines() if line.strip() and line[0] != "#"]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [Step(*line.split(maxsplit=1)) for line in joined]


class Image:
    """What comes of a Containerfile, until the end of its `with` block."""

    def __init__(self, containerfile: Path, context: Path, root: Path, wheels: Path, folder: Path) -> None:
        """Given the folder that COPY takes from, what FROM names, the wheels that pip may take, a folder to work in."""
        self._steps = steps_of(containerfile)
        self._context = context
        self._layers = [str(folder), str(root), str(wheels)]
        self._root = folder / "root"
        self._environment = {"PATH": _PATH}
        self._user = ""
        self._folder = "/"
        self._command: dict[str, list[str]] = {"ENTRYPOINT": [], "CMD": []}
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        unshare = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--propagation=private"]
        hold = [*unshare, "sh", "-c", _HOLD, "sh", *self._layers]
        self._holder = subprocess.Popen(hold, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "there\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._holder is not None
        self._holder.kill()
        with self._holder:
            pass

    def build(self, *before: str) -> None:
        """Run the steps. `before` are commands that first take away what the root has and FROM's image has not."""
        for command in before:
            self.run(["sh", "-euc", command])
        for step in self._steps:
            self._take(step)

    def _take(self, step: Step) -> None:
        match step.instruction:
            case "RUN":
                self.run(["sh", "-c", step.text], environment=_OFFLINE)
            case "COPY":
                source, target = step.text.split()
                self._copy(self._context / source, target)
            case "ENV":
                self._environment |= dict(word.split("=", 1) for word in shlex.split(step.text))
            case "USER":
                self._user = step.text
            case "WORKDIR":
                self._folder = step.text
            case "ENTRYPOINT" | "CMD":
                self._command[step.instruction] = json.loads(step.text)
            case "FROM" | "VOLUME":
                pass
            case _:
                raise AssertionError(f"an instruction that is not known here: {step}")

    def run(self, words: Sequence[str], *, environment: Mapping[str, str] | None = None) -> str:
        """Run a command in it, as the image's user by now; return what it says. Raise AssertionError if it fails."""
        done = subprocess.run(
            self._words(words, environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_STEP_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{words}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout

    @contextmanager
    def started(self, *arguments: str, environment: Mapping[str, str], console: Path) -> Iterator[Started]:
        """Start a container with the image's own command, or its entry point with other arguments."""
        words = [*self._command["ENTRYPOINT"], *(arguments or self._command["CMD"])]
        with console.open("wb") as output:
            process = subprocess.Popen(
                self._words(words, environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            yield Started(process)
        finally:
            process.kill()  # and, by --kill-child, with it the namespace
            process.wait()

    def _words(self, words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        assert self._holder is not None
        inside = ["setpriv", "--pdeathsig=KILL", "nsenter", "-t", str(self._holder.pid), "--mount"]
        unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--propagation=private"]
        together = {**self._environment, "HOME": self._home(), **environment}
        variables = [f"{name}={value}" for name, value in together.items()]
        place = [str(self._root), self._user, self._folder]
        return [*inside, *unshare, "sh", "-c", _RUN, "sh", *place, *variables, *words]

    def _home(self) -> str:
        assert self._holder is not None
        users = Path(f"/proc/{self._holder.pid}/root{self._root}/etc/passwd").read_text().splitlines()
        homes = {fields[0]: fields[5] for fields in (line.split(":") for line in users)}
        return homes[self._user or "root"]

    def _copy(self, source: Path, target: str) -> None:
        assert self._holder is not None
        script = 'mkdir -p "$1" && tar -x -C "$1"'
        inside = ["nsenter", "-t", str(self._holder.pid), "--mount", "sh", "-c", script, "sh", f"{self._root}{target}"]
        with subprocess.Popen(
            ["tar", "-C", str(source), "--exclude=__pycache__", "-c", "."], stdout=subprocess.PIPE
        ) as packing:
            subprocess.run(inside, stdin=packing.stdout, check=True)
        assert packing.returncode == 0, f"tar could not read {source}"


class Started:
    """A container that runs: `process` is what waits for its process 1."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        """Its process 1, as this machine numbers it."""
        deadline = time.monotonic() + _END_SECONDS
        while not (children := self._children()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return children[0]

    def pids_of(self, command_line: str) -> list[int]:
        """Return its processes with exactly this command line."""
        return [pid for pid in _below(self.pid) if _command_line(pid) == command_line]

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        return self.process.wait(_END_SECONDS)

    def _children(self) -> list[int]:
        return _children(self.process.pid)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _below(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _below(child)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""  # gone by now
