"""Our own places where settings are written: flags, LOCAL_AGENT_* variables, TOML files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from local_agent.settings.access import opened_to_this_user
from local_agent.settings.findings import Findings, did_you_mean
from local_agent.settings.kinds import NOTHING
from local_agent.settings.model import BY_KEY, OPTIONS
from local_agent.settings.option import VARIABLE_PREFIX, Given, Layer, Option, Source, SourceKind

TABLES = ("limits", "ceilings")

# Not settings, though they have our prefix: what Kubernetes and Docker tell a container about a service named
# local-agent, and what this project's own tests are steered by (their children inherit it).
_OTHERS = re.compile(
    r"LOCAL_AGENT_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?|TESTS?_\w+|CACHE)"
)

_TOML_WORDS: dict[type, str] = {
    str: "a text", int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "a table",
}  # fmt: skip


def flags_layer(flags: Mapping[str, object]) -> Layer:
    """Given option keys and what their flags were given, return the layer. Raise KeyError for an unknown key."""
    return {
        key: Given(value, Source(SourceKind.FLAG, BY_KEY[key].off if value is False else BY_KEY[key].flag))
        for key, value in flags.items()
        if value is not None and value != () and value != []
    }


def variables_layer(environ: Mapping[str, str], findings: Findings) -> Layer:
    """Given the environment, return what LOCAL_AGENT_* variables say; an empty one says nothing."""
    by_variable = {option.variable: option for option in OPTIONS}
    layer = {}
    for name, text in environ.items():
        if not name.startswith(VARIABLE_PREFIX) or _OTHERS.fullmatch(name):
            continue
        if name not in by_variable:
            _unknown(findings, f"variable {name}", name, by_variable)
        elif text.strip():
            layer[by_variable[name].key] = Given(unquoted(text), Source(SourceKind.VARIABLE, name))
    return layer


def unquoted(text: str) -> str:
    """Given a variable's text, return it without quotes around it: `docker run --env-file` leaves them there."""
    stripped = text.strip()
    is_quoted = len(stripped) > 2 and stripped[0] == stripped[-1] and stripped[0] in "\"'"
    return stripped[1:-1] if is_quoted and stripped[0] not in stripped[1:-1] else text


def _unknown(findings: Findings, where: str, name: str, known: Mapping[str, Option]) -> None:
    stem = name.removeprefix(VARIABLE_PREFIX)
    prefix = name[: len(name) - len(stem)]
    stems = {key.removeprefix(prefix).lower(): key for key in known if key.startswith(prefix)}
    likely = stems.get(did_you_mean(stem, stems), "")
    hint = f"did you mean {likely}?" if likely else "`local-agent config` lists all settings"
    findings.problem(where, "there is no such setting", hint)


def read_toml(path: Path, findings: Findings) -> dict[str, object] | None:
    """Given a path, return the file's content, or None if there is no file or it cannot be used (noted)."""
    try:
        text = path.read_bytes().decode()
        return tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        findings.problem(path, f"it is not UTF-8 at byte {error.start}", "write it again as UTF-8")
    except (ValueError, RecursionError) as error:  # a number of 5000 digits and deep nesting have no error of TOML's
        findings.problem(path, f"it is not TOML: {error}", _toml_hint(str(error)))
    except OSError as error:
        fix = opened_to_this_user(path) if isinstance(error, PermissionError) else ""
        hint = fix or "make it a file that the agent's user can read"
        findings.problem(path, f"it cannot be read: {error.strerror}", hint, fix)
    return None


def _toml_hint(complaint: str) -> str:
    if complaint.startswith("Cannot"):
        return "a key or a table stands in it twice"
    return 'texts need quotes, lists brackets, as in key = ["a"]'


def file_layer(path: Path, findings: Findings) -> Layer | None:
    """Given the path of one of our files, return what it says, or None if it is not there."""
    content = read_toml(path, findings)
    if content is None:
        return None
    layer = {}
    for key, value in _entries(path, content, findings):
        option = BY_KEY.get(key)
        if option is None or not option.in_files:
            _misplaced(path, key, findings)
        elif _type_fits(path, option, value, findings):
            layer[key] = Given(value, Source(SourceKind.FILE, key, path))
    return layer


def _entries(path: Path, content: Mapping[str, object], findings: Findings) -> Iterator[tuple[str, object]]:
    for key, value in content.items():
        if key not in TABLES:
            yield key, value
        elif isinstance(value, dict):
            yield from ((f"{key}.{name}", item) for name, item in value.items())
        else:
            findings.problem(f"{path}: {key}", "it is not a table", f"write [{key}] and its keys below")


def _misplaced(path: Path, key: str, findings: Findings) -> None:
    where = f"{path}: {key}"
    table, _, name = key.rpartition(".")
    if key in BY_KEY:
        hint = f"use {BY_KEY[key].flag} or {BY_KEY[key].variable}"
        findings.problem(where, "this setting cannot stand in a file", hint)
    elif not table and f"limits.{key}" in BY_KEY:
        findings.problem(where, "this setting belongs in a table", "put it below a line [limits]")
    elif table and name in BY_KEY:
        findings.problem(where, f"this setting does not belong in [{table}]", "put it above the first table")
    else:
        known = {known: option for known, option in BY_KEY.items() if option.in_files}
        prefix = f"{table}." if table else ""
        stems = {item.removeprefix(prefix): option for item, option in known.items() if item.startswith(prefix)}
        _unknown(findings, where, name, stems)


def _type_fits(path: Path, option: Option, value: object, findings: Findings) -> bool:
    kind = option.kind
    if type(value) in kind.toml_types:
        return True
    if kind.optional and isinstance(value, str) and value.strip().lower() in NOTHING:
        return True
    shown = "" if option.secret else f" ({value!r})"
    what = f"it is {_TOML_WORDS.get(type(value), 'a date or time')}{shown}, and must be {kind.noun}"
    findings.problem(f"{path}: {option.key}", what, f"write {option.key.rpartition('.')[2]} = {example_of(option)}")
    return False


def example_of(option: Option) -> str:
    """Given an option, return a value for it as TOML writes it."""
    types, example = option.kind.toml_types, option.example or option.kind.example
    if list in types:
        return f'["{example}"]'
    if dict in types:
        return '{ TZ = "UTC" }'
    bare = types[0] in (int, float, bool) and re.fullmatch(r"[0-9]+|true|false", example)
    return example if bare else f'"{example}"'
