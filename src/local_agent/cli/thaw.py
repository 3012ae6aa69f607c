"""`local-agent thaw`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from local_agent.cli.show import do_to_each, json_option
from local_agent.host import actions
from local_agent.host.view import this_host


@click.command("thaw")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@json_option
def command(*, runs: Sequence[str], as_json: bool) -> None:
    """Let frozen flow runs go on.

    RUN is a flow run's id, the beginning of one, or its name.

    Exit codes: 0; 66 where RUN is no flow run that is here now, or several; 69 where systemd does not do it.
    """
    systemctl = actions.Systemctl()
    do_to_each(this_host(), runs, lambda run: actions.thaw(run, systemctl), as_json=as_json)
