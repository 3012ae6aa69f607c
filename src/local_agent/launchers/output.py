"""Where a flow run's stdout and stderr go: into the journal, or into a file beside its record.

Either way the flow run writes there itself. The agent only reads along, so its death breaks no pipe.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Protocol

from local_agent.errors import StateError
from local_agent.systemd import journal
from local_agent.units.names import identifier_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local_agent.model import Record

_LAST_BYTES = 8192
LAST_LINES = 10


class Output(Protocol):
    """A place for the output of flow runs."""

    def open(self, record: Record, base: Path) -> contextlib.AbstractContextManager[int]:
        """Give a descriptor to write to, open until the context ends. Raise StateError."""

    def reason_against(self) -> str:
        """Return why none could be opened, "" where nothing is known against it."""

    def resume(self, record: Record, base: Path) -> None:
        """Go on with the output of a flow run that an earlier process of the agent started."""

    def last_lines(self, base: Path) -> tuple[str, ...]:
        """Return the last lines that a flow run wrote; none where that cannot be read back."""


class Reader(Protocol):
    """Whoever reads along (follow.py)."""

    def follow(self, record: Record, path: str | Path) -> None:
        """Read a new file, from its beginning."""

    def resume(self, record: Record, path: str | Path) -> None:
        """Read a file that an earlier process of the agent has read, from its end."""


class JournalOutput:
    """The journal, under the identifier flow-run-<id>. Only some users may read it back (systemd-journal(5))."""

    @contextlib.contextmanager
    def open(self, record: Record, base: Path) -> Iterator[int]:  # noqa: ARG002 - the Protocol's
        """Open a stream into the journal."""
        try:
            stream = journal.open_stream(identifier_of(record.id))
        except OSError as error:
            raise StateError(
                f"the journal takes no output: {error.strerror}", hint="systemctl status systemd-journald"
            ) from error
        with stream:
            yield stream.fileno()

    def reason_against(self) -> str:
        """Tell a journal that is gone: nobody listens on its socket."""
        try:
            journal.knock()
        except OSError as error:
            return f"the journal takes no output: {error.strerror} (systemctl status systemd-journald)"
        return ""

    def resume(self, record: Record, base: Path) -> None:
        """Nothing is to be done: the flow run has its stream."""

    def last_lines(self, base: Path) -> tuple[str, ...]:
        """Return the last lines under the run's identifier; the base's name is the run's id."""
        return journal.last_lines(identifier_of(base.name), LAST_LINES)


class FileOutput:
    """A file beside the run's record, gone when the run is forgotten. A `reader` is told of each, to read along."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @contextlib.contextmanager
    def open(self, record: Record, base: Path) -> Iterator[int]:
        """Open the run's file for appending, so that it may be cut short meanwhile."""
        path = output_file(base)
        try:
            remove_output(base)  # made anew: a flow run of this user may have put a link or a pipe in its place
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"cannot write {path}: {error.strerror}") from error
        try:
            self._reader.follow(record, path)
            yield descriptor
        finally:
            os.close(descriptor)

    def reason_against(self) -> str:
        """There is nothing beyond the folder, which the records need too."""
        return ""

    def resume(self, record: Record, base: Path) -> None:
        """Have what it writes from now on read along."""
        self._reader.resume(record, output_file(base))

    def last_lines(self, base: Path) -> tuple[str, ...]:
        """Return the last lines of the run's file."""
        try:
            descriptor = os.open(output_file(base), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return ()
        try:
            size_bytes = os.fstat(descriptor).st_size  # 0 where it is no regular file
            data = os.pread(descriptor, _LAST_BYTES, max(0, size_bytes - _LAST_BYTES)) if size_bytes else b""
        except OSError:
            return ()
        finally:
            os.close(descriptor)
        return tuple(data.decode(errors="replace").splitlines()[-LAST_LINES:])


def output_file(base: Path) -> str:
    """Return the file that holds a run's output where no journal does."""
    return f"{base}.out"


def remove_output(base: Path) -> None:
    """Remove the run's output file, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(output_file(base))  # noqa: PTH108 - as above
