"""`local-agent set`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from local_agent.cli.show import do_to_each, json_option
from local_agent.host import actions
from local_agent.host.live_limits import properties_of
from local_agent.host.reading.runs import Run
from local_agent.host.view import this_host


@click.command("set")
@click.argument("run")
@click.argument("limits", metavar="LIMIT=VALUE...", nargs=-1, required=True)
@json_option
def command(*, run: str, limits: Sequence[str], as_json: bool) -> None:
    """Give a flow run other limits while it runs: local-agent set RUN memory=8G cpu=200%

    RUN is a flow run's id, the beginning of one, or its name. Limits are memory, memory_high, cpu, cpu_weight,
    io_weight and tasks; `none` takes one away. They hold until the flow run ends.

    Exit codes: 0; 66 where RUN is no flow run that is here now, or several; 69 where systemd does not do it; 78 where
    a limit is none.
    """
    properties, systemctl = properties_of(limits), actions.Systemctl()

    def limit(found: Run) -> str:
        return actions.set_limits(found, properties, systemctl)

    do_to_each(this_host(), [run], limit, as_json=as_json)
