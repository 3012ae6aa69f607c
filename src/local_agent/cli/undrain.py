"""`local-agent undrain`."""

from __future__ import annotations

import click

from local_agent.cli.ask import agent_options, ask_agent


@click.command("undrain")
@agent_options
def command(instance: str | None, state_dir: str | None) -> None:
    """Make a drained agent take flow runs again.

    Exit codes: 0; 69 where no agent answers, or not to this user.
    """
    click.echo(ask_agent(instance, state_dir, "undrain"))
