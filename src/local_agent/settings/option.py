"""What one setting is: everything that flags, variables, files and manuals derive from."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from local_agent.settings.kinds import Kind

VARIABLE_PREFIX = "LOCAL_AGENT_"


@dataclass(frozen=True, kw_only=True)
class Option:
    """One setting. What follows from its name is a property here and is written nowhere else."""

    kind: Kind[Any]
    help: str
    key: str = ""
    """Its key in the TOML files, with the table's name before a dot; the attribute's name if empty."""
    flag: str = ""
    """Its long flag; it has none if empty."""
    short: str = ""
    off: str = ""
    """The flag that says no; a flag with one takes no value."""
    metavar: str = ""
    prefect_key: str = ""
    example: str = ""
    """A better one than its kind's."""
    default_text: str = ""
    """What the default is, where it is no fixed value."""
    secret: bool = False
    multiple: bool = False
    """The flag may be repeated."""
    reloadable: bool = True
    """A reload applies it; otherwise only a restart does."""
    in_files: bool = True
    only: str = ""
    """The one kind of API (`protocol`) that it means something for; "" for every one."""
    expand_home: bool = False

    @functools.cached_property
    def variable(self) -> str:
        """Its environment variable: `limits.memory_max` is LOCAL_AGENT_MEMORY_MAX."""
        table, _, name = self.key.rpartition(".")
        stem = f"{name}_ceiling" if table == "ceilings" else name
        return VARIABLE_PREFIX + stem.upper()


class SourceKind(Enum):
    """Where a value can come from."""

    FLAG = "flag"
    VARIABLE = "variable"
    CREDENTIAL = "credential"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True)
class Source:
    """Where a value came from: the flag, variable, credential or key, the file, or why it is the default."""

    kind: SourceKind
    name: str = ""
    path: Path | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"{self.path}: {self.name}" if self.name else str(self.path)
        if self.kind is SourceKind.DEFAULT:
            return f"default ({self.name})" if self.name else "default"
        return f"{self.kind.value} {self.name}"


@dataclass(frozen=True)
class Given:
    """A value as somebody wrote it, and where; not parsed yet."""

    value: object
    source: Source


Layer = Mapping[str, Given]
"""What one place says: option key -> what is given there."""
