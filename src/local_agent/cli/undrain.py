"""`local-agent undrain`."""

from __future__ import annotations

import click

from local_agent.cli.ask import agent_options, ask_agent


@click.command("undrain")
@agent_options
def command(instance: str | None, state_dir: str | None) -> None:
    """Make a drained agent take flow runs again."""
    click.echo(ask_agent(instance, state_dir, "undrain"))
