"""The records of flow runs on disk: a file each, to which every save adds a line of JSON. The last whole one counts.

A file more for each save, renamed into place, would do as well; but to make and delete files is most of what a record
costs (ext4 looks for an inode that was not freed in the last seconds).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from local_agent.errors import ConfigError, StateError
from local_agent.linux.untrusted import open_folder, read_regular
from local_agent.store.record_format import NewerFormatError, lines_of, record_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from local_agent.model import Record

UNREADABLE = ".unreadable"  # added to the name of a record that is put aside
_MAX_UNNAMED = 100
_NO_RECORD = frozenset({errno.EINVAL, errno.ELOOP, errno.EFBIG, errno.ENXIO})  # something else lies in its place
_CREATE = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MAX_BYTES = 4 << 20  # a record's own lines have some kilobytes
_MIN_FREE_BYTES = 64 * 1024  # a record and what the shim writes take a few KiB


class Store:
    """The state folder of one instance. One agent at a time holds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs = folder / "runs"
        self._drained = folder / "drained"
        self._lock: int | None = None

    def open(self) -> None:
        """Make the folder if need be and lock it. Raise StateError, or ConfigError where another agent has it."""
        try:
            self._runs.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | _CREATE, 0o600)
        except OSError as error:
            raise _unusable(self.folder, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            raise ConfigError(
                f"another agent uses {self.folder}",
                hint="give each agent an --instance name, and with it a state folder, of its own",
            ) from error
        try:
            self._shut_out()
        except OSError as error:
            self.close()
            raise _unusable(self._runs, error) from error

    def _shut_out(self) -> None:
        """Leave nothing by which an earlier user of the folder could have this one write elsewhere.

        An admin may have moved the instance to another user (User=): systemd gives the folder and all in it to that
        user, and leaves links as they are. A link in the place of a record is put aside by `load_all`.
        """
        runs = open_folder(self._runs)
        try:
            if (mode := stat.S_IMODE(os.fstat(runs).st_mode)) & _OTHERS_MAY_WRITE:
                os.fchmod(runs, mode & ~_OTHERS_MAY_WRITE)
            with os.scandir(runs) as entries:
                links = [one.name for one in entries if one.is_symlink() and ".json" not in one.name]
            for name in links:
                os.unlink(name, dir_fd=runs)
        finally:
            os.close(runs)
        if self._drained.is_symlink():
            self._drained.unlink()

    def close(self) -> None:
        """Let the next agent have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def base_of(self, flow_run_id: str) -> Path:
        """Return the path of a run's files without their suffix."""
        return self._runs / flow_run_id

    def save(self, record: Record, *, durable: bool = False) -> None:
        """Put a record on disk, whole or not at all. Raise StateError, e.g. on a full disk.

        It need not outlast a power cut: what it adds to the claim's record concerns processes, and then there are none.
        `durable` is for flow runs that go on elsewhere meanwhile.
        """
        path = self._path(record.id)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | _CREATE, 0o600)
            try:
                _write_line(descriptor, record)
                if durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _unusable(path, error) from error

    def save_all(self, records: Sequence[Record], *, durable: bool = False) -> Sequence[StateError | None]:
        """Save records of several runs, each as `save` does. Return what came of each."""
        return [self._outcome(record, durable) for record in records]

    def _outcome(self, record: Record, durable: bool) -> StateError | None:  # noqa: FBT001 - passed on
        try:
            self.save(record, durable=durable)
        except StateError as error:
            return error
        return None

    def save_claims(self, records: Sequence[Record]) -> Sequence[StateError | None]:
        """Put the first records of claims on disk, each there even after a power cut. Return what came of each."""
        with contextlib.ExitStack() as opened_files:
            outcomes = [self._begin(record, opened_files) for record in records]
            failures = [one if isinstance(one, StateError) else self._sync(one) for one in outcomes]
        try:
            self._sync_folder()
        except OSError as error:
            return [_unusable(self._runs, error)] * len(records)
        return failures

    def remove(self, flow_run_id: str) -> None:
        """Forget a run. What is not there any more is forgotten already."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(flow_run_id))  # noqa: PTH108 - see _path
        except OSError as error:
            raise _unusable(self._runs, error) from error

    def shortage(self) -> str:
        """Return why no record can be put on disk, "" where nothing is known against it. May block as a disk does."""
        try:
            space = os.statvfs(self._runs)
        except FileNotFoundError:
            return f"the state folder {self._runs} is gone; a restart of the agent makes it anew"
        except OSError as error:
            return _unusable(self._runs, error).message
        if space.f_flag & os.ST_RDONLY or not os.access(self._runs, os.W_OK | os.X_OK):
            return f"{self._runs} cannot be written"
        free = space.f_bfree if os.geteuid() == 0 else space.f_bavail
        if free * space.f_frsize < _MIN_FREE_BYTES or (space.f_files and not space.f_favail):
            return f"{self._runs} is full: `df -h`, `df -i`"
        return ""

    @property
    def draining(self) -> bool:
        """Whether somebody drained this instance: that holds until it is undrained, restarts and reboots included."""
        return self._drained.exists()

    def set_draining(self, *, draining: bool) -> None:
        """Remember it, or that it is over. Raise StateError."""
        try:
            self._drained.touch(mode=0o600) if draining else self._drained.unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(self._drained, error) from error

    def load_all(self) -> tuple[tuple[Record, ...], tuple[str, ...]]:
        """Return every record, and a sentence for each that cannot be read.

        Such a one is put aside, not deleted. One of a later format stays as it is. One that an older version has put
        aside, and that can be read now, counts again.
        """
        for path in sorted(self._runs.glob(f"*.json{UNREADABLE}")):
            self._take_back(path)
        records, problems = [], []
        for path in sorted(self._runs.glob("*.json")):
            try:
                if content := read_regular(path, _MAX_BYTES):
                    records.append(_record_of(path.stem, content))
                else:  # the agent was killed before the record's first word, and nobody was told of a claim
                    path.unlink()
            except NewerFormatError as error:
                problems.append(f"{path} was written by a later version ({error}); its flow run is left alone")
            except (ValueError, OSError) as error:
                if isinstance(error, OSError) and error.errno not in _NO_RECORD:
                    raise _unusable(path, error) from error
                path.replace(path.with_suffix(f".json{UNREADABLE}"))
                problems.append(f"{path} is not a record of this version ({error}); it was put aside as .unreadable")
        return tuple(records), tuple(problems)

    def _take_back(self, path: Path) -> None:
        """Given a record that was put aside, put it back if it can be read now and no other took its place."""
        with contextlib.suppress(OSError, ValueError):
            record_in(read_regular(path, _MAX_BYTES))
            original = path.with_suffix("")
            if not os.path.lexists(original):
                path.rename(original)

    def ids(self) -> frozenset[str]:
        """Return the flow runs that there is a record of, whether it can be read or not."""
        return frozenset(path.name.partition(".")[0] for path in self._runs.glob("*.json*"))

    def load(self, flow_run_id: str) -> Record | None:
        """Return the record of a run, None where there is none that can be read."""
        try:
            return record_in(read_regular(self._path(flow_run_id), _MAX_BYTES))
        except (OSError, ValueError):
            return None

    def _path(self, flow_run_id: str) -> str:
        return f"{self._runs}/{flow_run_id}.json"  # pathlib interns each name that it is given

    def _begin(self, record: Record, opened_files: contextlib.ExitStack) -> int | StateError:
        """Begin a record. Return its descriptor: all are written before the first is waited for, which then
        commits for all."""
        path = self._path(record.id)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | _CREATE, 0o600)
            opened_files.callback(os.close, descriptor)
            _write_line(descriptor, record)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # the kernel begins to write it out
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 - see _path
            return _unusable(path, error)
        return descriptor

    def _sync(self, descriptor: int) -> StateError | None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            return _unusable(self._runs, error)
        return None

    def _sync_folder(self) -> None:
        descriptor = os.open(self._runs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _record_of(flow_run_id: str, content: bytes) -> Record:
    """Return the record in a file that is named after its flow run. Raise ValueError: what it says becomes a path."""
    record = record_in(content)
    if record.id != flow_run_id:
        raise ValueError(f"it is that of {str(record.id)[:100]!r}")
    return record


@contextlib.contextmanager
def opened(store: Store) -> Iterator[Store]:
    """Hold the state folder for the length of the context."""
    store.open()
    try:
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def opened_first_free(folder: Path) -> Iterator[Store]:
    """Hold a state folder, or the first of FOLDER-2, FOLDER-3, ... that no other agent holds.

    For agents that nobody named, which may run side by side. At the next start each again takes the first free one, so
    every flow run is taken up by one of them.
    """
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in range(2, _MAX_UNNAMED + 1))
    store = Store(folder)
    while True:
        try:
            store.open()
            break
        except ConfigError as error:
            store = Store(_next_or_raise(numbered, error))
    try:
        yield store
    finally:
        store.close()


def _next_or_raise(folders: Iterator[Path], error: ConfigError) -> Path:
    for folder in folders:
        return folder
    raise error


def _write_line(descriptor: int, record: Record) -> None:
    """Write a record, on a line of its own even where the one before was cut off by a full disk."""
    line = lines_of(record)
    if os.write(descriptor, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _unusable(path: str | Path, error: OSError) -> StateError:
    return StateError(
        f"cannot use {path}: {error.strerror or error}",
        hint="check its owner, its mode and the free space (df -h, df -i); --state-dir names another place",
    )
