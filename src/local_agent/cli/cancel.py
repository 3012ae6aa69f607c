"""`local-agent cancel`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from local_agent.cli.show import do_to_each, json_option
from local_agent.host import actions
from local_agent.host.reading.runs import Run
from local_agent.host.view import this_host


@click.command("cancel")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--stop", is_flag=True, help="Do not ask the API: end it here and now.")
@json_option
def command(*, runs: Sequence[str], stop: bool, as_json: bool) -> None:
    """Cancel flow runs of this host.

    RUN is a flow run's id, the beginning of one, or its name. It is cancelled at the API, as in Prefect's own user
    interface: the flow run ends itself, and after `cancel_grace` its agent ends it. Where no agent answers, and with
    --stop, everything of it is stopped at once, and the agent reports it as Cancelled.

    Exit codes: 0; 66 where RUN is no flow run that is here now, or several; 69 where it could not be cancelled. Of
    several RUNs each is tried; the first failure gives the code.
    """
    host, systemctl = this_host(), actions.Systemctl()

    def cancel(run: Run) -> str:
        return actions.stop(run, systemctl) if stop else actions.cancel(run, host.folders, systemctl)

    do_to_each(host, runs, cancel, as_json=as_json)
