"""`local-agent doctor`."""

from __future__ import annotations

import os
import sys

import click

from local_agent.cli.options import flags_in
from local_agent.host.doctor import checkup
from local_agent.host.doctor.check import Verdict
from local_agent.host.table import terminal_of
from local_agent.host.view import this_host
from local_agent.plain import json_text


@click.command("doctor")
@click.option("--instance", metavar="NAME", default=None, help="Look at the machine and this instance only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(context: click.Context, *, instance: str | None, as_json: bool) -> None:
    """Look whether this host can do the job, and say what fixes what cannot.

    Each line is ok, a warning (it works, with something missing or doubtful) or a failure, with the evidence and, where
    it is not ok, the command that fixes it. Last a scope is tried that double-forks, writes to the journal and is
    stopped. Run it as root: others cannot read settings and try the scope.

    Exit codes: 0 where nothing failed, with or without warnings; 1 where something did; 66 where there is no such
    instance.
    """
    host, terminal, findings = this_host(), terminal_of(sys.stdout, os.environ), []
    for finding in checkup.examine(host, instance, flags_in):
        findings.append(finding)
        if not as_json:
            click.echo("\n".join(checkup.shown(finding, terminal)))
    if as_json:
        click.echo(json_text(checkup.as_json(findings, host.now())))
    context.exit(1 if any(finding.verdict is Verdict.FAILURE for finding in findings) else 0)
