"""Files to be written: with the right mode from the first moment on, whole or not at all, over nothing by accident."""

from __future__ import annotations

import grp
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local_agent.errors import LocalAgentError


class WriteError(LocalAgentError):
    """A file could not be written, or is there already."""

    exit_code = 73


@dataclass(frozen=True)
class File:
    """A file to install: where it goes, what is in it, who may read it. A secret one is never printed."""

    path: Path
    text: str
    mode: int = 0o644
    is_secret: bool = False
    group: str = ""
    """Who else may read it, if there is such a group and root writes it."""

    @property
    def title(self) -> str:
        """Its path, and its mode where that matters."""
        group = f", group {self.group}" if self.group else ""
        return f"{self.path} (mode {self.mode:04o}{group})" if self.mode != 0o644 else str(self.path)


def write_files(files: Sequence[File], root: Path, *, force: bool) -> list[Path]:
    """Given files and the folder that stands for /, write all and return where they are.

    Raise WriteError, before anything is written, if one exists and `force` is false.
    """
    targets = [root / str(file.path).lstrip("/") for file in files]
    existing = [str(target) for target in targets if os.path.lexists(target)]
    if existing and not force:
        verb = "is" if len(existing) == 1 else "are"
        raise WriteError(f"{', '.join(existing)} {verb} there already", hint="--force replaces what is there")
    for target, file in zip(targets, files, strict=True):
        try:
            _write(target, file, force=force)
        except OSError as error:
            raise WriteError(f"{target} cannot be written: {error.strerror}", hint="choose another --output") from error
    return targets


def _write(target: Path, file: File, *, force: bool) -> None:
    """Write beside it, then give it its name: a link refuses what exists by now, a rename replaces it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, file.mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, file.mode)
            _give_to_group(descriptor, file.group)
            stream.write(file.text.encode("utf-8", "surrogateescape"))
        if force:
            beside.replace(target)
        else:
            target.hardlink_to(beside)
    finally:
        beside.unlink(missing_ok=True)


def _give_to_group(descriptor: int, name: str) -> None:
    if not name or os.geteuid() != 0:
        return
    try:
        os.fchown(descriptor, -1, grp.getgrnam(name).gr_gid)
    except KeyError:
        return  # the package that makes the group is not installed; the admin's own unit has another
