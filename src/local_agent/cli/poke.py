"""`local-agent poke`."""

from __future__ import annotations

import click

from local_agent.cli.ask import ask_agent


@click.command("poke")
@click.option(
    "--instance", metavar="NAME", default=None, help="The agent's instance, the part after the @ of its unit."
)
@click.option("--state-dir", metavar="FOLDER", default=None, help="The agent's state folder, where it is no usual one.")
def command(instance: str | None, state_dir: str | None) -> None:
    """Make a running agent poll now, instead of when it would by itself.

    Exit codes: 0; 69 where no agent answers, or not to this user.
    """
    click.echo(ask_agent(instance, state_dir, "poke"))
