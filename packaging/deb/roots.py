"""Clean root file systems to build packages in: Debian's, with what debian/control asks for, kept in the cache."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from support.cache import SetUpError, loudly, made_once

CHECKOUT = Path(__file__).resolve().parents[2]
# Debian 12 has graphql-core 2, whose API is another one
NO_SERVER = "pkg.local-agent.noserver"

_TOOLS = {12: ("build-essential",), 13: ("build-essential", "lintian", "mandoc", "codespell")}
_SUITES = {12: "bookworm", 13: "trixie"}


@dataclass(frozen=True)
class BuildRoot:
    """A release to build for."""

    number: int

    @property
    def suite(self) -> str:
        """Its name."""
        return _SUITES[self.number]

    @property
    def profiles(self) -> tuple[str, ...]:
        """The build profiles that it is built with."""
        return (NO_SERVER,) if self.number == 12 else ()

    @property
    def path(self) -> Path:
        """The root file system, made at the first call. Nobody writes to it."""
        key = hashlib.sha256("\n".join(self._packages()).encode()).hexdigest()[:12]
        return made_once(f"build-{self.number}-{key}", self._make) / "root"

    def _packages(self) -> tuple[str, ...]:
        return (*_TOOLS[self.number], *build_dependencies((CHECKOUT / "debian/control").read_text(), self.profiles))

    def _make(self, folder: Path) -> None:
        if shutil.which("mmdebstrap") is None:
            raise SetUpError("mmdebstrap is not installed: apt-get install mmdebstrap")
        command = ["sh", "-c", 'rm -rf "$0" && exec mmdebstrap "$@" "$0"', folder / "root"]
        options = [
            *("--mode=root", "--variant=apt", "--format=directory", "--quiet"),
            *('--aptopt=Acquire::Languages "none"', "--dpkgopt=force-unsafe-io"),
            f"--include={','.join(self._packages())}",
        ]
        doing = f"making a Debian {self.number} to build packages in, about a minute"
        loudly(doing, [*command, *options, self.suite], tries=3)


RELEASES = {number: BuildRoot(number) for number in _SUITES}


def build_dependencies(control: str, profiles: tuple[str, ...]) -> tuple[str, ...]:
    """Given debian/control, return the names that Build-Depends asks for under these build profiles."""
    field = re.search(r"^Build-Depends:(.*(?:\n[ \t].*)*)", control, re.MULTILINE)
    assert field is not None
    entries = [entry.strip() for entry in field[1].replace("\n", " ").split(",") if entry.strip()]
    return tuple(_name(entry) for entry in entries if _is_wanted(entry, profiles))


def _name(entry: str) -> str:
    """debhelper-compat and dh-sequence-* are provided by real packages; mmdebstrap wants those."""
    name = entry.split()[0]
    return (
        {"debhelper-compat": "debhelper", "dh-sequence-python3": "dh-python"}.get(name, name)
        .replace("dh-sequence-installsysusers", "debhelper")
        .replace("dh-sequence-bash-completion", "bash-completion")
    )


def _is_wanted(entry: str, profiles: tuple[str, ...]) -> bool:
    """All terms of one <...> must hold, and one <...> of all is enough (deb-src-control(5))."""
    groups = re.findall(r"<([^>]*)>", entry)
    return not groups or any(all(_holds(term, profiles) for term in group.split()) for group in groups)


def _holds(term: str, profiles: tuple[str, ...]) -> bool:
    return (term.removeprefix("!") in profiles) != term.startswith("!")
