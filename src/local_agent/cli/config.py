"""`local-agent config`: every setting and where it came from."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import click

from local_agent.cli.options import flags_in, start_options
from local_agent.linux.procfs import cgroup_of
from local_agent.plain import json_text, printable
from local_agent.settings import load_settings
from local_agent.settings.show import as_json, as_lines
from local_agent.units.names import service_of


@click.command()
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
@start_options
def command(*, as_json_: bool, flags: Mapping[str, object]) -> None:
    """Show every setting and where it came from, and start nothing. Secrets are masked.

    With --instance NAME it shows what the running agent of that name uses, asked from itself, and which settings were
    changed since. Where no such agent answers, or with more options of `start`, it shows what a start would make of
    them, of the unit's own user, variables and files. Without --instance they are this shell's.

    Exit codes: 0; 69 where its unit cannot be looked at; 78 where a setting is wrong.
    """
    instance = str(flags.get("instance") or "")
    if instance and not _is_inside(instance):
        from local_agent.host.doctor.settings_of import settings_of
        from local_agent.host.view import this_host

        rest = {key: value for key, value in flags.items() if key != "instance"}
        shown = settings_of(this_host(), instance, rest, flags_in)
        if shown is not None:
            _print(shown.told, shown.lines, shown.notes, as_json_=as_json_)
            return
    settings = load_settings(flags=flags, environ=os.environ, hostname=socket.gethostname())
    notes = [_here(settings.instance)] if settings.is_named and not _is_inside(settings.instance) else []
    _print({**as_json(settings), "from": "shell"}, [*as_lines(settings)], notes, as_json_=as_json_)


def _is_inside(instance: str) -> bool:
    """Tell whether this process is in the service itself, and so has what the agent has."""
    return service_of(instance) in cgroup_of(os.getpid()).split("/")


def _here(instance: str) -> str:
    return (
        f"this is what `start` would make of it in this shell; what an agent in {service_of(instance)} uses is told "
        "to root and to its user"
    )


def _print(told: Mapping[str, object], lines: object, notes: object, *, as_json_: bool) -> None:
    warnings = told.get("warnings")
    for warning in warnings if isinstance(warnings, list) else []:
        click.echo(f"warning: {printable(str(warning))}", err=True)
    if as_json_:
        click.echo(json_text(told, indent=2))
    else:
        for line in lines if isinstance(lines, list | tuple) else []:
            click.echo(printable(line.rstrip()))
    for note in notes if isinstance(notes, list | tuple) else []:
        click.echo(f"note: {printable(note)}", err=True)
