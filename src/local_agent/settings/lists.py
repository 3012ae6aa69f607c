"""Lists and mappings as settings: from repeated flags, from one variable's text, from TOML.

Prefect 1 writes lists in variables as Python or JSON literals and takes a bare word for a list of its letters;
here a bare word is one item.
"""

from __future__ import annotations

import json
import re
from ast import literal_eval
from collections.abc import Mapping

_VARIABLE_NAME = re.compile(r"[^=\0\n]+")


def parse_list(value: object) -> tuple[str, ...]:
    """Given a list, or a text that holds a literal list or words with commas, return its items without blanks."""
    return _items(value, separator=",")


def parse_paths(value: object) -> tuple[str, ...]:
    """Given a list, or a text that holds a literal list or paths with colons, return the paths."""
    return _items(value, separator=":")


def _items(value: object, *, separator: str) -> tuple[str, ...]:
    items = literal(value) if isinstance(value, str) else value
    if isinstance(items, str):
        items = [_unquoted(word) for word in _within_brackets(items).split(separator)]
    if not isinstance(items, list | tuple | set):
        items = [items]
    return tuple(text for text in (_item(item) for item in items) if text.strip())


def _within_brackets(text: str) -> str:
    """Given a text that is no literal, return it without the brackets of a list whose quotes somebody took away.

    systemd and a shell do so with X=["dev","staging"]. Raise ValueError where a list begins and does not end.
    """
    stripped = text.strip()
    if stripped.startswith("[") and not stripped.endswith("]"):
        raise ValueError(f"{text!r} begins like a list and does not end like one")
    is_list = stripped.startswith("[") or (stripped.startswith("(") and stripped.endswith(")"))
    return stripped[1:-1] if is_list else stripped


def _unquoted(word: str) -> str:
    """Return an item without blanks around it, and without the quotes that are left in a list that is no literal."""
    stripped = word.strip()
    return stripped[1:-1] if len(stripped) > 1 and stripped[0] == stripped[-1] and stripped[0] in "'\"" else stripped


def parse_env(value: object) -> dict[str, str]:
    """Given KEY=VALUE texts, a mapping, or a text of either, return the mapping. None values are dropped."""
    if isinstance(value, str):
        found = _json(value) or literal(value)
        value = found if isinstance(found, Mapping) else _words(value)
    if isinstance(value, Mapping):
        return {_name(str(key)): _env_value(str(key), item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return dict(_assignment(str(item)) for item in value)
    raise ValueError(f'"{value}" is not KEY=VALUE')


def literal(text: str) -> object:
    """The Python or JSON value that a text holds, if it begins like one; otherwise the text."""
    stripped = text.strip()
    if not stripped.startswith(("[", "{", "(", '"', "'")):
        return text
    for parse in (literal_eval, json.loads):
        try:
            result: object = parse(stripped)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return result
    return text


def _json(text: str) -> object:
    try:
        result: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return result


def _words(text: str) -> list[str]:
    import shlex  # costs 2 ms that few starts need

    return shlex.split(text)


def _item(item: object) -> str:
    if isinstance(item, bool | Mapping | list | tuple) or item is None:
        raise ValueError(f"{item!r} in the list is not a text")
    text = str(item)
    if any(character in text for character in "\0\n\r"):
        raise ValueError(f"{text!r} contains a line break or a NUL")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{text!r} is not UTF-8")
    return text


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f'"{text}" has no "="')
    return _name(name), _env_value(name, value)


def _name(name: str) -> str:
    if not _VARIABLE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a variable")
    return name


def _env_value(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping | list | tuple):
        raise ValueError(f"the value of {name} is not a text")  # noqa: TRY004 - every parser raises ValueError
    text = str(value)
    if "\0" in text:
        raise ValueError(f"the value of {name} contains a NUL")
    return text
