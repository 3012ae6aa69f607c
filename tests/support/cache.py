"""What takes long to make and is kept outside the repository: environments, wheels, root file systems."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class SetUpError(Exception):
    """Something that the tests stand on could not be made; says what failed and what to do."""


def cache_folder() -> Path:
    """Return where such things are kept: $LOCAL_AGENT_CACHE, or local-agent in the user's own cache."""
    if chosen := os.environ.get("LOCAL_AGENT_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "local-agent"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Given a lock file's path, hold it: others that ask wait. It goes when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Given a name and how to fill a folder, return that folder, filled now or before.

    The name must change with everything that decides the contents. One that was interrupted is made again.
    """
    folder = cache_folder() / name
    complete = folder / "complete"
    with locked(cache_folder() / f"{name}.lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            complete.touch()
    return folder


def loudly(
    doing: str, command: Sequence[object], *, tries: int = 1, environment: Mapping[str, str] | None = None
) -> None:
    """Given what to tell and a command, run it. Raise SetUpError with the end of its output when it fails.

    A command that needs the network gets several tries: registries have hiccups.
    """
    print(f"local-agent tests: {doing}", file=sys.stderr, flush=True)
    words = [str(word) for word in command]
    for left in reversed(range(tries)):
        result = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        )
        if result.returncode == 0:
            return
        print(f"  that failed, {left} more tries", file=sys.stderr, flush=True)
    output = result.stdout.decode(errors="replace")[-3000:]
    raise SetUpError(f"{doing}: exit code {result.returncode} from: {' '.join(words)}\n{output}")
