"""What a flow run has on this machine beside its record, and only while it lives: made before its gate, gone after it.

    ID.exit      what the shim says of its end
    ID.out       its output, where no journal takes it
    ID.control   a pipe by which it is asked to end, where it listens to one
    ID.scratch   a folder of its own, where it has no other

They are found by the record's id alone, so that a later life of the agent removes them as well.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import LaunchError, StateError, not_started
from local_agent.launchers import evidence
from local_agent.launchers.output import remove_output

if TYPE_CHECKING:
    from local_agent.aio.threads import Workers
    from local_agent.model import Child, Record

CONTROL_VARIABLE = "LOCAL_AGENT_CONTROL"
INTERRUPT = b"c"


# told of what could not be ended or removed, in words
OnLeft = Callable[["Record", str], None]


@dataclass(frozen=True, slots=True)
class Belongings:
    """Makes and removes them. `base_of` gives the path of a run's files without suffix; `disk` is for what may last."""

    base_of: Callable[[str], Path]
    disk: Workers
    on_left: OnLeft

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.base_of("x").parent

    def prepared(self, record: Record, child: Child) -> Child:
        """Make what a child asks for, and return it with the folder and the variable that tell it where that is.

        Raise LaunchError where its folder does not exist or may not be entered, ExhaustedError where that cannot be
        told now, StateError where nothing can be made.
        """
        base = self.base_of(record.id)
        evidence.remove_exit_record(base)
        if child.has_control:
            child = replace(child, env={**child.env, CONTROL_VARIABLE: _made_pipe(base)})
        if child.working_dir is None:
            return replace(child, working_dir=_made_folder(base))
        _try_folder(record, child.working_dir)
        return child

    async def remove(self, record: Record) -> None:
        """Remove all of it; a folder that does not go is told of. Raise StateError for the shim's words."""
        base = self.base_of(record.id)
        _remove_files(base)
        if _has_folder(base):
            problem = await self.disk.run(lambda: _removed(_scratch(base)))
            if problem:
                self.on_left(record, f"its folder {_scratch(base)}: {problem}")

    def interrupt(self, record: Record) -> bool:
        """Ask a flow run by its pipe to end. Return whether it has one and listens."""
        try:
            path = _control(self.base_of(record.id))
            pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # no pipe, or nobody has it open
            return False
        try:
            return stat.S_ISFIFO(os.fstat(pipe).st_mode) and os.write(pipe, INTERRUPT) == len(INTERRUPT)
        except OSError:
            return False  # it is full: whoever has it open does not read
        finally:
            os.close(pipe)


def _remove_files(base: Path) -> None:
    evidence.remove_exit_record(base)
    remove_output(base)
    with contextlib.suppress(OSError):
        os.unlink(_control(base))  # noqa: PTH108 - for each flow run


def _has_folder(base: Path) -> bool:
    return os.path.lexists(_scratch(base))


def _made_pipe(base: Path) -> str:
    path = _control(base)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - as above
        os.mkfifo(path, 0o600)
    except OSError as error:
        raise StateError(f"cannot make {path}: {error.strerror}") from error
    return path


def _made_folder(base: Path) -> Path:
    path = _scratch(base)
    try:
        if _has_folder(base):
            _removed(path)
        os.mkdir(path, 0o700)  # noqa: PTH102 - as above
    except OSError as error:
        raise StateError(f"cannot make {path}: {error.strerror}") from error
    return Path(path)


def _try_folder(record: Record, folder: Path) -> None:
    """Raise LaunchError or ExhaustedError where a folder cannot be entered on this machine."""
    hint = "create the folder on this machine, or change the flow run's working_dir"
    try:
        os.close(os.open(f"{folder}/.", os.O_PATH | os.O_CLOEXEC))  # pathlib would take a part "." away
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL, or what is no text
        message = f"Flow run {record.id} has a nonexistent `working_dir` configured: {folder}"
        raise LaunchError(message, hint=hint) from error
    except OSError as error:
        raise not_started(f"Flow run {record.id} cannot have the `working_dir` {folder}", error, hint=hint) from error


def _control(base: Path) -> str:
    return f"{base}.control"


def _scratch(base: Path) -> str:
    return f"{base}.scratch"


def _removed(path: str) -> str:
    """Remove a folder and all in it. Return what has kept it, "" where it is gone.

    A flow run may have put something else in its place, which goes alone, or shut folders in it: these are opened, and
    it is tried again.
    """
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)  # noqa: PTH108 - as above
            return ""
        shutil.rmtree(path, ignore_errors=True)
        if os.path.lexists(path):
            _open_all(path)
            shutil.rmtree(path)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _open_all(path: str) -> None:
    """Let the owner of a folder into it and into all below. What a link leads to stays as it is."""
    _open_one(path, None)
    for _, folders, _, inside in os.fwalk(path):
        for name in folders:
            with contextlib.suppress(OSError):
                _open_one(name, inside)


def _open_one(name: str, inside: int | None) -> None:
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", stat.S_IRWXU)  # noqa: PTH101 - fchmod takes none that is O_PATH
    finally:
        os.close(descriptor)
