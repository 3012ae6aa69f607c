"""Prefect 1's own configuration: config.toml, backend.toml, PREFECT__* variables, auth.toml.

Read as prefect 1.4.1 reads it: config.toml below backend.toml below the environment, `$VAR` and `~` expanded, texts
that are Python literals taken as such, `${a.b}` replaced by that key's value. Its mistakes are not repeated.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from local_agent.settings.findings import Findings
from local_agent.settings.lists import literal
from local_agent.settings.option import Given, Source, SourceKind
from local_agent.settings.places import read_toml

_PREFIX = "PREFECT__"
_ROUNDS = 10
_REFERENCE = re.compile(r"\$\{(.[^${}]*)\}")
_SHELL_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})", re.ASCII)

# What prefect 1.4.1 ships and other keys refer to. Its default backend is Cloud; ours is settled by the caller.
_PACKAGED: Mapping[str, object] = {
    "home_dir": "~/.prefect",
    "server.host": "http://localhost",
    "server.port": "4200",
    "server.host_port": "4200",
    "server.endpoint": "${server.host}:${server.port}",
    "cloud.api": "${${backend}.endpoint}",
    "cloud.endpoint": "https://api.prefect.io",
    "cloud.graphql": "${cloud.api}/graphql",
    "cloud.agent.name": "agent",
    "cloud.agent.level": "INFO",
    "logging.level": "INFO",
}

Expand = Callable[[str], str]


@dataclass(frozen=True)
class Resolved:
    """A value with its references replaced, and who wrote the parts of it, the strongest first."""

    value: object
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class PrefectConfig:
    """All that Prefect's own files and variables say, by dotted key."""

    given: Mapping[str, Given]
    files: tuple[Path, ...]
    expand: Expand

    def says(self, *keys: str) -> bool:
        """Whether anybody wrote one of these keys."""
        return any(key in self.given for key in keys)

    def resolve(self, key: str, *, backend: str) -> Resolved | None:
        """Given a key and the settled backend, return its value, or None if nobody but Prefect itself says it."""
        sources: list[Source] = []
        value = self._follow(key, backend, sources)
        if not sources or value is None or value in ("", [], {}, ()):
            return None
        return Resolved(value, _strongest_first(sources))

    def default(self, key: str, *, backend: str) -> str:
        """Given a key, return its value even if only Prefect itself says it."""
        return str(self._follow(key, backend, []))

    def backend(self) -> Given | None:
        """Return which backend is said, as Prefect takes it: quotes around it do not count."""
        given = self.given.get("backend")
        if given is None or not isinstance(given.value, str):
            return given
        return Given(typed(self.expand(given.value)), given.source)

    def table(self, key: str, *, backend: str) -> Resolved | None:
        """Given the key of a table of variables, return it as a mapping. A mapping as one value replaces the files'."""
        whole = self.given.get(key)
        entries: dict[str, object] = {}
        sources: list[Source] = []
        if whole is not None:
            value = typed(self.expand(whole.value)) if isinstance(whole.value, str) else whole.value
            if not isinstance(value, Mapping):
                return Resolved(value, (whole.source,)) if value else None
            entries.update({str(name): item for name, item in value.items()})
            sources.append(whole.source)
        for name, given in self._below(key):
            if whole is None or given.source.kind is SourceKind.VARIABLE:
                text = self.expand(given.value) if isinstance(given.value, str) else given.value
                entries[name] = self._replaced(text, backend, [])
                sources.append(given.source)
        return Resolved(entries, _strongest_first(sources)) if entries else None

    def _below(self, key: str) -> Iterator[tuple[str, Given]]:
        prefix = f"{key}."
        for name, given in self.given.items():
            if name.startswith(prefix):
                yield name.removeprefix(prefix), given

    def _follow(self, key: str, backend: str, sources: list[Source]) -> object:
        """The value of a key, its references replaced."""
        return self._replaced(self._raw(key, backend, sources), backend, sources)

    def _replaced(self, value: object, backend: str, sources: list[Source]) -> object:
        """A value with its references replaced one after another, as Prefect does."""
        for _ in range(_ROUNDS):
            if not isinstance(value, str):
                break
            match = _REFERENCE.search(value)
            if match is None:
                break
            part = self._raw(match.group(1), backend, sources)
            is_whole = value == match.group(0)
            value = part if is_whole else value.replace(match.group(0), str(part), 1)
        return typed(value) if isinstance(value, str) else value

    def _raw(self, key: str, backend: str, sources: list[Source]) -> object:
        if key == "backend":
            return backend
        if key in self.given:
            given = self.given[key]
            sources.append(given.source)
            return self.expand(given.value) if isinstance(given.value, str) else given.value
        packaged = _PACKAGED.get(key, "")
        return self.expand(packaged) if isinstance(packaged, str) else packaged


def _strongest_first(sources: Sequence[Source]) -> tuple[Source, ...]:
    return tuple(sorted(sources, key=lambda source: source.kind is not SourceKind.VARIABLE))


def typed(text: str) -> object:
    """Given a text, return the list, mapping or quoted text that it holds. Numbers stay texts: a key of digits is
    a key, and whoever wants a number parses it."""
    value = literal(text)
    if value is None or text.strip() == "None":
        return None
    return value


def expander(environ: Mapping[str, str], home: Path) -> Expand:
    """Given the environment, return what replaces `$VAR` and a leading `~` until nothing changes any more."""

    def variable(match: re.Match[str]) -> str:
        return environ.get(match.group(1).strip("{}"), match.group(0))

    def expand(text: str) -> str:
        for _ in range(_ROUNDS):
            expanded = expand_home(_SHELL_VARIABLE.sub(variable, text), home)
            if expanded == text:
                break
            text = expanded
        return text

    return expand


def expand_home(text: str, home: Path) -> str:
    """Given a path as text, return it with a leading `~` or `~user` replaced."""
    if text == "~" or text.startswith("~/"):
        return str(home) + text[1:]
    return os.path.expanduser(text) if text.startswith("~") else text  # noqa: PTH111 - the text need not be a path


def load_prefect(environ: Mapping[str, str], home: Path, findings: Findings) -> PrefectConfig:
    """Given the environment, read Prefect's two files and its variables. What cannot be read is noted."""
    expand = expander(environ, home)
    given: dict[str, Given] = {}
    files = []
    for variable, usual in (
        ("PREFECT__USER_CONFIG_PATH", "~/.prefect/config.toml"),
        ("PREFECT__BACKEND_CONFIG_PATH", "~/.prefect/backend.toml"),
    ):
        path = Path(expand(environ.get(variable) or usual))
        content = _read(path, findings, asked_for=variable if environ.get(variable) else "")
        if content is not None:
            files.append(path)
            given.update(_flatten(content, path))
    given.update(_from_variables(environ))
    return PrefectConfig(given, tuple(files), expand)


def _read(path: Path, findings: Findings, *, asked_for: str) -> dict[str, object] | None:
    try:
        there = stat.S_ISREG(path.stat().st_mode)
    except PermissionError:
        findings.warn(f"{path} is left out, as this user may not look whether it exists; namei -l {path}")
        return None
    except OSError:
        there = False
    if not there:
        if asked_for:
            findings.warn(f"{path}: there is no such file, though {asked_for} names it")
        return None
    return read_toml(path, findings)


def _flatten(content: Mapping[str, object], path: Path, prefix: str = "") -> Iterator[tuple[str, Given]]:
    for name, value in content.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _flatten(value, path, f"{key}.")
        else:
            yield key, Given(value, Source(SourceKind.FILE, key, path))


def _from_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, Given]]:
    for name, text in environ.items():
        if name.startswith(_PREFIX):
            key = ".".join(name.removeprefix(_PREFIX).lower().split("__"))
            yield key, Given(text, Source(SourceKind.VARIABLE, name))


def api_slug(api: str) -> str:
    """Given the API's URL, return the section of auth.toml that is about it."""
    netloc = urlsplit(api).netloc or api
    return re.sub(r"[^-.a-z0-9]+", "-", netloc.lower()).strip("-")


def load_auth(config: PrefectConfig, api: str, findings: Findings) -> dict[str, Given]:
    """Given the API's URL, return what `prefect auth login` left for it: api_key, tenant_id, or nothing."""
    home_dir = config.default("home_dir", backend="server")
    path = Path(home_dir).absolute() / "auth.toml"
    content = _read(path, findings, asked_for="")
    slug = api_slug(api)
    section = (content or {}).get(slug, {})
    if not isinstance(section, dict):
        findings.problem(f"{path}: {slug}", "it is not a table", "run `prefect auth login` again")
        return {}
    return {
        name: Given(section[name], Source(SourceKind.FILE, f"{slug}.{name}", path))
        for name in ("api_key", "tenant_id")
        if section.get(name)
    }
