"""`local-agent drain`."""

from __future__ import annotations

import time

import click

from local_agent.cli.ask import agent_options, ask_agent

_LOOK_SECONDS = 1.0


@click.command("drain")
@agent_options
@click.option("--wait", is_flag=True, help="Return when no flow run is running any more.")
def command(instance: str | None, state_dir: str | None, *, wait: bool) -> None:
    """Make an agent take no further flow runs, until `local-agent undrain`; those that run go on.

    That holds over restarts and reboots, so a machine can be drained, worked on and undrained.

    Exit codes: 0; 69 where no agent answers, or not to this user.
    """
    click.echo(ask_agent(instance, state_dir, "drain"))
    while wait and ask_agent(instance, state_dir, "live") != "0":
        time.sleep(_LOOK_SECONDS)
