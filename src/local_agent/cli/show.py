"""What the commands about flow runs share: saying what could not be looked at, doing something to several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import click

from local_agent.cli.main import report_error
from local_agent.errors import LocalAgentError
from local_agent.host.runs import Run, with_figures
from local_agent.host.view import Host


def show_problems(problems: Iterable[str]) -> None:
    """Say on standard error what could not be looked at; what was seen is shown all the same."""
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)


def do_to_each(host: Host, words: Sequence[str], action: Callable[[Run], str]) -> None:
    """Do something to each flow run that is meant, say what was done, and exit with the code of the first failure."""
    failures: list[LocalAgentError] = []
    for word in words:
        try:
            (run,) = with_figures([host.find(word)])
            click.echo(action(run))
        except LocalAgentError as error:
            report_error(error)
            failures.append(error)
    if failures:
        click.get_current_context().exit(failures[0].exit_code)
