"""`local-agent status`."""

from __future__ import annotations

import os
import sys

import click

from local_agent.cli.show import show_notes, show_problems
from local_agent.host.output import status
from local_agent.host.table import terminal_of
from local_agent.host.view import this_host
from local_agent.plain import json_text


@click.command("status")
@click.option("--instance", metavar="NAME", default=None, help="Only this instance.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(context: click.Context, *, instance: str | None, as_json: bool) -> None:
    """Show the instances of this host: their services, whether the API answers them, what they run.

    SINCE is how long the service has been up, API how long the API has been answering or lost, POLL how long ago it
    answered last, SLOTS how many are taken and how many there are. What only an agent knows is shown to root and to its
    user.

    Exit codes: 0 where all is well, 1 where something is not or could not be looked at, which is said; 66 where there
    is no such instance.
    """
    host = this_host()
    instances, problems = host.instances(instance)
    pressure = status.read_pressure()
    if as_json:
        click.echo(json_text(status.as_json(instances, pressure, problems, host.now())))
    else:
        terminal = terminal_of(sys.stdout, os.environ)
        for line in [*status.table(instances, host.now(), terminal), status.in_words(pressure)]:
            click.echo(line)
        show_problems([*(f"{one.name}: {one.problem}" for one in instances if one.problem), *problems])
        show_notes(f"{one.name}: {note}" for one in instances for note in one.notes)
    context.exit(0 if status.is_well(instances, problems) else 1)
