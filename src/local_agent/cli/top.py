"""`local-agent top`."""

from __future__ import annotations

import os
import shutil
import sys
import time

import click

from local_agent.cli.show import show_problems
from local_agent.host.table import terminal_of
from local_agent.host.top import view
from local_agent.host.top.history import Histories
from local_agent.host.top.session import TopSession, look_at
from local_agent.host.top.terminal import opened
from local_agent.host.top.view import Snapshot, State, frame
from local_agent.host.view import Host, this_host
from local_agent.plain import json_text


@click.command("top")
@click.option(
    "-d",
    "--delay",
    metavar="SECONDS",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="From one look to the next.",
)
@click.option("--instance", metavar="NAME", default=None, help="Only flow runs of this instance.")
@click.option("--json", "as_json", is_flag=True, help="Look twice, as in a pipe, and print JSON.")
def command(*, delay: float, instance: str | None, as_json: bool) -> None:
    """Show the flow runs of this host as they use CPU and memory, in all, per instance and each.

    Keys: c, m, s, n sort by CPU, memory, since, name; the arrows choose a flow run; f freezes, t thaws and x cancels
    it; q quits. In a pipe it looks twice, `--delay` apart, prints what it saw and ends.

    Exit codes: 0; 66 where there is no such instance.
    """
    host = this_host()
    if sys.stdout.isatty() and sys.stdin.isatty() and not as_json:
        _live(host, delay, instance)
    else:
        _once(host, delay, instance, as_json=as_json)


def _once(host: Host, delay: float, instance: str | None, *, as_json: bool) -> None:
    histories = Histories()
    look_at(host, histories, instance)
    time.sleep(delay)  # CPU in use is what was used between two looks
    look = look_at(host, histories, instance)
    if as_json:
        click.echo(json_text(view.as_json(look)))
        return
    click.echo("\n".join(_without_keys(look)))
    show_problems(look.problems)


def _without_keys(look: Snapshot) -> list[str]:
    return [line.rstrip() for line in frame(look, State(), terminal_of(sys.stdout, os.environ), 0)[:-2]]


def _live(host: Host, delay: float, instance: str | None) -> None:
    session = TopSession(host, instance)
    with opened(sys.stdin.fileno(), sys.stdout) as screen:
        while not session.state.is_over:
            session.look()
            session.wait(screen, delay, terminal_of(sys.stdout, os.environ), shutil.get_terminal_size().lines)
