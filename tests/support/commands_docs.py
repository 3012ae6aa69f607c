"""The pages of docs/commands, and what is in them that the commands say themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from local_agent.cli.main import cli
from support.checkout import CHECKOUT

COMMANDS = tuple(cli.list_commands(click.Context(cli)))
DOCS = CHECKOUT / "docs/commands"
_TEXT_COLUMNS = 78  # of a terminal of 80 columns


def help_of(name: str) -> str:
    """Return what a command's --help prints on a terminal of 80 columns."""
    parent = click.Context(cli, info_name="local-agent", **cli.context_settings)
    context = click.Context(command_named(name), info_name=name, parent=parent, terminal_width=_TEXT_COLUMNS)
    return context.get_help() + "\n"


def command_named(name: str) -> click.Command:
    """Return a command."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def documented_keys() -> dict[str, set[str]]:
    """Return what docs/commands/json.md lists, by command: "runs.id" is the key id of each of the runs."""
    sections = re.split(r"^## local-agent ", (DOCS / "json.md").read_text(), flags=re.MULTILINE)[1:]
    rows = {section.split()[0]: re.findall(r"^\| ([a-z_.]+) \|", section, re.MULTILINE) for section in sections}
    return {command: set(keys) - {"key"} for command, keys in rows.items()}


def keys_of(value: object, path: str = "") -> Iterator[str]:
    """Return the keys in what a command printed as JSON, as they are documented; of a list all have the same."""
    if isinstance(value, list):
        for one in value:
            yield from keys_of(one, path)
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}{key}"
            yield from keys_of(inner, f"{path}{key}.")


def undocumented(command: str, printed: object) -> set[str]:
    """Return the keys that a command printed and that are not documented, and the documented ones that it did not.

    What is documented of the inside of a value need not be there where the value is null.
    """
    keys, documented = set(keys_of(printed)), documented_keys()[command]
    parents = _parents(keys | documented)
    nulls = (parents & keys) - _parents(keys)
    inside_null = {key for key in documented if any(key.startswith(f"{null}.") for null in nulls)}
    return (keys - parents) ^ (documented - parents - inside_null)


def _parents(keys: set[str]) -> set[str]:
    """Return the keys that have others within them."""
    return {key for key in keys if any(other.startswith(f"{key}.") for other in keys)}
