"""Reading the journal by way of journalctl, which knows its times, its boots and how to follow it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_agent.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Group = tuple[str, ...]

_WRONG_OPTION = "Failed to parse"
_NOTHING_READ = "No journal files were"
_FOLDERS = (Path("/var/log/journal"), Path("/run/log/journal"))


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of this host, as far as this user may read it. `command` is what reads it."""

    command: tuple[str, ...] = ("journalctl",)
    folders: tuple[Path, ...] = _FOLDERS

    def entries(
        self, groups: Iterable[Group], options: Sequence[str] = (), fields: Sequence[str] = ()
    ) -> Iterator[Mapping[str, Any]]:
        """Return the entries that fit one of the groups, each as its fields. Raise UnavailableError.

        In a group ("FIELD=value", ...) one value of each field must fit. `fields` are all that is needed of an entry.
        Closing the iterator ends the reading.
        """
        wanted = [f"--output-fields={','.join(fields)}"] if fields else []
        words = [*self.command, "--quiet", "--no-pager", "--all", "--output=json", *wanted, *options]
        with self._started([*words, *_joined(groups)]) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    yield json.loads(line)
                _check(process)
            finally:
                process.terminate()

    def values(self, field: str, most_characters: int) -> list[str] | None:
        """Return every value that a field has anywhere in the journal, None where that is more than so much."""
        with self._started([*self.command, "--quiet", "--no-pager", f"--field={field}"]) as process:
            assert process.stdout is not None
            text = process.stdout.read(most_characters + 1)
            process.terminate()
            return text.splitlines() if len(text) <= most_characters else None

    def can_be_read(self) -> bool:
        """Tell whether this user may read what the system's users wrote, and not only what is their own."""
        files = [path for folder in self.folders for path in folder.glob("*/system.journal")]
        return any(os.access(path, os.R_OK) for path in files)

    def can_be_read_of(self, uid: int) -> bool:
        """Tell whether this user may read what a user wrote: journald gives each login's user a file of its own."""
        files = [path for folder in self.folders for path in folder.glob(f"*/user-{uid}.journal")]
        return self.can_be_read() or any(os.access(path, os.R_OK) for path in files)

    def _started(self, words: Sequence[str]) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            hint = f"command -v {words[0]} shows whether it is there; it is of Debian's package systemd"
            raise UnavailableError(f"cannot run {words[0]}: {error.strerror}", hint=hint) from error


def _check(process: subprocess.Popen[str]) -> None:
    """It ends with 1 where nothing fits and where nothing may be read, too; then it has nothing to say."""
    assert process.stderr is not None
    said = process.stderr.read().strip()
    if process.wait() != 0 and said and not said.startswith(_NOTHING_READ):
        if _WRONG_OPTION in said:
            raise ConfigError(f"journalctl: {said}", hint="times are written as in systemd.time(7)")
        raise UnavailableError(f"journalctl: {said}", hint="journalctl -e; systemctl status systemd-journald")


def _joined(groups: Iterable[Group]) -> list[str]:
    words: list[str] = []
    for group in groups:
        words += [*(["+"] if words else []), *group]
    return words


def uid_matches(uids: Iterable[int]) -> Group:
    """Return the matches for entries that root or one of these users wrote: anybody may write any other field."""
    return tuple(f"_UID={uid}" for uid in sorted({0, *uids}))


def text_of(entry: Mapping[str, Any], field: str) -> str:
    """Return a field as text: journalctl gives bytes where it holds control characters, a list where it is repeated."""
    value = entry.get(field)
    if isinstance(value, list):
        if value and all(isinstance(byte, int) for byte in value):
            return bytes(value).decode(errors="replace")
        return str(value[0]) if value and isinstance(value[0], str) else ""
    return value if isinstance(value, str) else ""
