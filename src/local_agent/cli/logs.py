"""`local-agent logs`."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from local_agent.cli.show import show_problems
from local_agent.errors import UnavailableError
from local_agent.host.log import render
from local_agent.host.log.search import LogsWanted, find_lines
from local_agent.host.table import terminal_of
from local_agent.host.view import MAY_NOT_READ, Host, this_host
from local_agent.plain import json_text


@click.command("logs")
@click.argument("run", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come, until the flow run ends.")
@click.option(
    "-n", "--lines", "most", metavar="N", type=click.IntRange(0), default=None, help="Only the last N entries."
)
@click.option("--since", metavar="TIME", default=None, help='From then on: "-2h", "yesterday", "2026-01-31 14:00".')
@click.option("--until", metavar="TIME", default=None, help="Up to then.")
@click.option("--agent-only", is_flag=True, help="Only what the agent and systemd say about it.")
@click.option("--flow-only", is_flag=True, help="Only what the flow run itself wrote.")
@click.option("--all", "of_all", is_flag=True, help="Every flow run, since this boot unless --since is given.")
@click.option("--instance", metavar="NAME", default=None, help="With --all: of this instance only.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
def command(
    *,
    run: str | None,
    follow: bool,
    most: int | None,
    since: str | None,
    until: str | None,
    agent_only: bool,
    flow_only: bool,
    of_all: bool,
    instance: str | None,
    as_json: bool,
) -> None:
    """Show what RUN wrote, and what its agent and systemd did about it, in the order in which it happened.

    RUN is a flow run's id, the beginning of one, or its name. The journal holds all of it; root and the group
    systemd-journal may read it. Times are systemd's: see systemd.time(7).

    Exit codes: 0; 66 where RUN is no flow run that this host knows, or several, and where there is no such instance; 69
    where the journal cannot be read; 78 where a time is none.
    """
    if bool(run) == of_all:
        raise click.UsageError("name one flow run, or give --all: local-agent logs RUN")
    if agent_only and flow_only:
        raise click.UsageError("--agent-only and --flow-only together leave nothing")
    host, terminal = this_host(), terminal_of(sys.stdout, os.environ)
    wanted = LogsWanted(run, instance, follow, most, since, until, agent_only=agent_only, flow_only=flow_only)
    may_read, is_empty = host.journal.can_be_read(), True
    if not may_read:
        show_problems([MAY_NOT_READ])
    names: dict[str, str] | None = {} if of_all else None
    with contextlib.closing(find_lines(host, wanted)) as lines:
        for line in lines:
            is_empty = False
            if names is not None and line.run_name:
                names[line.flow_run_id] = line.run_name
            text = json_text(render.as_json(line)) if as_json else None
            click.echo(text or render.shown(line, terminal, names))
    if is_empty:
        _explain_nothing(host, instance, may_read=may_read)


def _explain_nothing(host: Host, instance: str | None, *, may_read: bool) -> None:
    """Say why nothing was shown."""
    if instance is not None:
        host.check_instance(instance)
    if not may_read:
        raise UnavailableError(
            "nothing of it is in what this user may read",
            hint="run this as root, or as a member of systemd-journal: usermod -aG systemd-journal USER",
        )
    show_problems(["the journal has nothing of that"])
