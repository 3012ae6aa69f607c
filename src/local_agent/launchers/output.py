"""Where a flow run's stdout and stderr go: into the journal, or into a file beside its record.

Either way the flow run writes there itself. The agent only reads along, so its death breaks no pipe.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Protocol

from local_agent.errors import StateError
from local_agent.systemd import journal
from local_agent.systemd.names import identifier_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from local_agent.model import Record

_LAST_BYTES = 8192
LAST_LINES = 10


class Output(Protocol):
    """A place for the output of flow runs."""

    def open(self, record: Record, base: Path) -> contextlib.AbstractContextManager[int]:
        """Give a descriptor to write to, open until the context ends. Raise StateError."""

    def last_lines(self, base: Path) -> tuple[str, ...]:
        """Return the last lines that a flow run wrote; none where that cannot be read back."""


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

    def last_lines(self, base: Path) -> tuple[str, ...]:
        """Return the last lines under the run's identifier; the base's name is the run's id."""
        return journal.last_lines(identifier_of(base.name), LAST_LINES)


class FileOutput:
    """A file beside the run's record, gone when the run is forgotten. `on_open` is told of each, to read along."""

    def __init__(self, on_open: Callable[[Record, Path], None]) -> None:
        self._on_open = on_open

    @contextlib.contextmanager
    def open(self, record: Record, base: Path) -> Iterator[int]:
        """Open the run's file for appending, so that it may be cut short meanwhile."""
        path = output_file(base)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"cannot write {path}: {error.strerror}") from error
        try:
            self._on_open(record, path)
            yield descriptor
        finally:
            os.close(descriptor)

    def last_lines(self, base: Path) -> tuple[str, ...]:
        """Return the last lines of the run's file."""
        try:
            with output_file(base).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return ()
        return tuple(text.splitlines()[-LAST_LINES:])


def output_file(base: Path) -> Path:
    """Return the file that holds a run's output where no journal does."""
    return base.with_suffix(".out")


def remove_output(base: Path) -> None:
    """Remove the run's output file, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        output_file(base).unlink()
