"""`local-agent reload`."""

from __future__ import annotations

import click

from local_agent.cli.ask import ask_agent
from local_agent.linux import dumps


@click.command("reload")
@click.option(
    "--instance", metavar="NAME", default=None, help="The agent's instance, the part after the @ of its unit."
)
@click.option("--state-dir", metavar="FOLDER", default=None, help="The agent's state folder, where it is no usual one.")
def command(instance: str | None, state_dir: str | None) -> None:
    """Make a running agent read its settings again, and say what came of it.

    Exit codes: 0; 69 where no agent answers, or not to this user; 77 and 78 where a key or a setting is wrong: then the
    old settings stay.
    """
    dumps.forbid()  # as ExecReload= it is in the agent's cgroup, where a flow run that reached into it would be, too
    click.echo(ask_agent(instance, state_dir, "reload"))
