"""The pages of docs/commands, and what is in them that the commands say themselves."""

from __future__ import annotations

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
