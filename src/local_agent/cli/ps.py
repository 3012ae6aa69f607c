"""`local-agent ps`."""

from __future__ import annotations

import os
import sys
import time

import click

from local_agent.cli.show import show_problems
from local_agent.host.output import ps
from local_agent.host.table import terminal_of
from local_agent.host.view import this_host
from local_agent.plain import json_text

_LOOK_SECONDS = 2.0
_CLEAR = "\x1b[H\x1b[J"


@click.command("ps")
@click.option("-a", "--all", "with_ended", is_flag=True, help="Also flow runs that ended, and how.")
@click.option(
    "-n",
    "--lines",
    "most",
    metavar="N",
    type=click.IntRange(0),
    default=50,
    show_default=True,
    help="With -a: the last N that ended.",
)
@click.option("--instance", metavar="NAME", default=None, help="Only flow runs of this instance.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Look again every 2 s until interrupted.")
def command(*, with_ended: bool, most: int, instance: str | None, as_json: bool, watch: bool) -> None:
    """List the flow runs of this host.

    Any user may, and the API is not asked. SINCE is for how long a flow run has been running, or when it ended; MEMORY,
    PEAK and LIMIT are of everything that it started. The state at the API is known to root and to the agent's user.

    Exit codes: 0, also where there is none and where something could not be looked at, which is said as a warning; 66
    where there is no such instance.
    """
    while True:
        _show_once(most if with_ended else 0, instance, as_json=as_json, clear=watch and sys.stdout.isatty())
        if not watch:
            return
        time.sleep(_LOOK_SECONDS)


def _show_once(ended: int, instance: str | None, *, as_json: bool, clear: bool) -> None:
    host = this_host()
    overview, now = host.overview(instance=instance, ended=ended), host.now()
    if as_json:
        click.echo(json_text(ps.as_json(overview, now)))
        return
    lines = ps.table(overview.runs, now, terminal_of(sys.stdout, os.environ), with_ended=bool(ended))
    click.echo((_CLEAR if clear else "") + "\n".join(lines))
    show_problems(overview.problems)
