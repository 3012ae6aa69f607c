"""Placeholders in a job configuration, filled as Prefect's own worker fills them (read and measured with 3.9.1).

    {{ memory }}, {{ limits.cpus[0] }}          a variable of the pool's, the deployment's or the run's
    {{ $HOME }}                                 a variable of the agent's environment
    {{ prefect.blocks.secret.token }}           a block at the API
    {{ prefect.variables.region }}              a variable at the API

One that is a whole text becomes the value itself, whatever its type; in a longer text it becomes the value's text. All
is pure: what stands at the API is named first (`block_names`, `block_ids`, `variable_names`), then put in.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Json: TypeAlias = object  # what json.loads returns
_PLACEHOLDER = re.compile(r"\{\{\s*([\w.\-\[\]$]+)\s*\}\}")
_BLOCK, _VARIABLE, _ENVIRONMENT = "prefect.blocks.", "prefect.variables.", "$"
_MAX_LENGTH = 8 * 1024 * 1024  # characters of one text: no process can have more in its environment


class Unset(Enum):
    """What a placeholder becomes whose variable has no value: the key that it is the value of goes away."""

    UNSET = "unset"


class TemplateError(ValueError):
    """A placeholder cannot be filled; the message is a sentence's end about it."""


def filled(template: Json, values: Mapping[str, Any], environ: Mapping[str, str]) -> Json:
    """Given any JSON, return it with its plain placeholders filled; those of blocks and variables stay.

    Where `values` has nothing for one, its key or item goes away, or in a longer text it becomes "".
    """
    return _mapped(template, lambda text: _filled_text(text, values, environ))


def block_names(template: Json) -> frozenset[tuple[str, str]]:
    """Return (slug of its type, name) of each block that a placeholder names. Raise TemplateError."""
    return frozenset(_block_of(name)[:2] for name in _names(template, _BLOCK))


def block_ids(template: Json) -> frozenset[str]:
    """Return the ids of the blocks that are referred to as {"$ref": {"block_document_id": ID}}."""
    return frozenset(_ids(template))


def with_blocks(
    template: Json,
    by_name: Mapping[tuple[str, str], Mapping[str, Any]],
    by_id: Mapping[str, Mapping[str, Any]],
) -> Json:
    """Return a template with its blocks put in, given the data of each. Raise TemplateError where one lacks a key."""
    return _mapped(template, lambda text: _with_blocks_text(text, by_name), by_id)


def variable_names(template: Json) -> frozenset[str]:
    """Return the names of the API's variables that placeholders name."""
    return frozenset(name.removeprefix(_VARIABLE) for name in _names(template, _VARIABLE))


def with_variables(template: Json, values: Mapping[str, Any]) -> Json:
    """Return a template with the API's variables put in; one that is not in `values` becomes ""."""

    def value_of(name: str) -> Json:
        return values.get(name.removeprefix(_VARIABLE), "")

    return _mapped(template, lambda text: _replaced(text, _VARIABLE, value_of))


def _mapped(
    template: Json,
    text: Callable[[str], Json],
    blocks: Mapping[str, Mapping[str, Any]] | None = None,
) -> Json:
    """Return any JSON with each text in it replaced; where that is UNSET, its key or item goes away."""
    if isinstance(template, str):
        return text(template)
    if isinstance(template, list):
        return [item for item in (_mapped(one, text, blocks) for one in template) if item is not Unset.UNSET]
    if isinstance(template, dict):
        block_id = _referred(template) if blocks is not None else ""
        if blocks is not None and block_id:
            return blocks[block_id]
        items = ((key, _mapped(one, text, blocks)) for key, one in template.items())
        return {key: item for key, item in items if item is not Unset.UNSET}
    return template


def _filled_text(text: str, values: Mapping[str, Any], environ: Mapping[str, str]) -> Json:
    whole = _PLACEHOLDER.fullmatch(text)
    if whole is not None and _is_plain(whole[1]):
        return _looked_up(values, whole[1])

    def value_of(name: str) -> str | None:
        if name.startswith(_ENVIRONMENT):
            return environ.get(name.lstrip(_ENVIRONMENT), "")
        if not _is_plain(name):
            return None
        value = _looked_up(values, name)
        return "" if value is Unset.UNSET else str(value)

    return _substituted(text, value_of)


def _is_plain(name: str) -> bool:
    return not name.startswith((_BLOCK, _VARIABLE, _ENVIRONMENT))


def _with_blocks_text(text: str, by_name: Mapping[tuple[str, str], Mapping[str, Any]]) -> Json:
    def value_of(name: str) -> Json:
        slug, block, path = _block_of(name)
        return _within_block(by_name[slug, block], path, name)

    return _replaced(text, _BLOCK, value_of)


def _within_block(data: Mapping[str, Any], path: str, name: str) -> Json:
    """Return what a path names in a block's data. Of a block that has but a `value`, as secrets have, that is meant."""
    says_so = path == "value" or path.startswith(("value.", "value["))
    where: Json = data["value"] if set(data) == {"value"} and not says_so else data
    found = _looked_up(where, path) if path else where
    if found is Unset.UNSET:
        raise TemplateError(f"{{{{ {name} }}}}: that block has no {path!r}")
    return found


def _block_of(name: str) -> tuple[str, str, str]:
    """Given a placeholder's name, return its block's type, its name and the path in it, "" for none."""
    slug, _, rest = name.removeprefix(_BLOCK).partition(".")
    block, _, path = rest.partition(".")
    if not slug or not block:
        raise TemplateError(f"{{{{ {name} }}}} is not of the form prefect.blocks.TYPE.NAME")
    return slug, block, path


def _replaced(text: str, prefix: str, value_of: Callable[[str], Json]) -> Json:
    """Return a text with the placeholders whose names begin with `prefix` replaced: a whole one by the value itself."""
    whole = _PLACEHOLDER.fullmatch(text)
    if whole is not None and whole[1].startswith(prefix):
        return value_of(whole[1])

    def text_of(name: str) -> str | None:
        if not name.startswith(prefix):
            return None
        value = value_of(name)
        if isinstance(value, (dict, list)) and prefix == _BLOCK:
            raise TemplateError(f"{{{{ {name} }}}} is no text, and other text stands beside it")
        return str(value)

    return _substituted(text, text_of)


def _substituted(text: str, value_of: Callable[[str], str | None]) -> str:
    """Return a text with each placeholder replaced once by what its name stands for; None leaves it."""
    pieces, end, length = [], 0, len(text)
    for match in _PLACEHOLDER.finditer(text):
        value = value_of(match[1])
        if value is None:
            continue
        length += len(value)
        if length > _MAX_LENGTH:
            raise TemplateError(f"a text with {{{{ {match[1]} }}}} becomes longer than {_MAX_LENGTH} characters")
        pieces += [text[end : match.start()], value]
        end = match.end()
    return "".join([*pieces, text[end:]])


def _looked_up(values: Json, path: str) -> Json:
    """Return what a path such as limits.cpus[0] names in JSON; an index counts in lists and in texts."""
    for key in path.replace("[", ".").replace("]", "").split("."):
        if isinstance(values, dict):
            values = values.get(key, Unset.UNSET)
        elif isinstance(values, (list, str)):
            values = _item(values, key)
        else:
            return Unset.UNSET
    return values


def _item(values: list[Any] | str, key: str) -> Json:
    try:
        return values[int(key)]
    except (ValueError, IndexError):
        return Unset.UNSET


def _names(template: Json, prefix: str) -> Iterator[str]:
    """Return the names of a kind that placeholders in any JSON have."""
    if isinstance(template, str):
        yield from (name for name in _PLACEHOLDER.findall(template) if name.startswith(prefix))
    elif isinstance(template, list):
        for item in template:
            yield from _names(item, prefix)
    elif isinstance(template, dict):
        yield from () if prefix == _BLOCK and _referred(template) else _names([*template.values()], prefix)


def _ids(template: Json) -> Iterator[str]:
    if isinstance(template, list):
        for item in template:
            yield from _ids(item)
    elif isinstance(template, dict):
        block_id = _referred(template)
        yield from (block_id,) if block_id else _ids([*template.values()])


def _referred(template: Mapping[str, Any]) -> str:
    reference = template.get("$ref")
    block_id = reference.get("block_document_id") if isinstance(reference, dict) else None
    return block_id if isinstance(block_id, str) else ""
