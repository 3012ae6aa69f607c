"""What the commands about flow runs share: saying what could not be looked at, doing something to several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from local_agent.cli.main import report_error
from local_agent.errors import LocalAgentError
from local_agent.host.reading.runs import Run, with_figures
from local_agent.host.table import printable
from local_agent.host.view import Host
from local_agent.plain import json_text

FORMAT = 1
Command = Callable[..., Any]


def show_problems(problems: Iterable[str]) -> None:
    """Say on standard error what could not be looked at; what was seen is shown all the same."""
    for problem in problems:
        click.echo(f"warning: {printable(problem)}", err=True)


def show_notes(notes: Iterable[str]) -> None:
    """Say on standard error what is worth knowing and no trouble."""
    for note in notes:
        click.echo(f"note: {printable(note)}", err=True)


def json_option(function: Command) -> Command:
    """Add --json: the function gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each RUN.")(function)


def do_to_each(host: Host, words: Sequence[str], action: Callable[[Run], str], *, as_json: bool) -> None:
    """Do something to each flow run that is meant, say what was done, and exit with the code of the first failure."""
    failures: list[LocalAgentError] = []
    for word in words:
        run = None
        try:
            (run,) = with_figures([host.find(word)])
            said, error = action(run), None
        except LocalAgentError as caught:
            said, error = caught.message, caught
            failures.append(caught)
        if as_json:
            click.echo(json_text(deed_as_json(word, run, said, error)))
        elif error is None:
            click.echo(printable(said))
        else:
            report_error(error)
    if failures:
        click.get_current_context().exit(failures[0].exit_code)


def deed_as_json(word: str, run: Run | None, said: str, error: LocalAgentError | None) -> dict[str, Any]:
    """Return what scripts get of what was done to one flow run; docs/commands/json.md says what each key means."""
    return {
        "format": FORMAT,
        "word": word,
        "flow_run_id": run.id if run else None,
        "name": run.name if run else None,
        "ok": error is None,
        "said": said,
        "hint": error.hint or None if error else None,
    }
