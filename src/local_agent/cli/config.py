"""`local-agent config`: every setting and where it came from."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping

import click

from local_agent.cli.options import start_options
from local_agent.settings import load_settings
from local_agent.settings.show import as_json, as_lines


@click.command()
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
@start_options
def command(*, as_json_: bool, flags: Mapping[str, object]) -> None:
    """Show every setting and where it came from, and start nothing. Secrets are masked.

    Takes every option of `start`, and shows what `start` would make of it.

    Exit codes: 0; 78 where a setting is wrong.
    """
    settings = load_settings(flags=flags, environ=os.environ, hostname=socket.gethostname())
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json_:
        click.echo(json.dumps(as_json(settings), indent=2, ensure_ascii=False))
        return
    for line in as_lines(settings):
        click.echo(line.rstrip())
    if settings.is_named and "INVOCATION_ID" not in os.environ:
        note = "a unit of systemd gets two things that this shell does not have: $STATE_DIRECTORY and its credentials"
        click.echo(f"note: {note}", err=True)
