"""What the commands that look at this host share: how they say what could not be looked at."""

from __future__ import annotations

from collections.abc import Iterable

import click


def show_problems(problems: Iterable[str]) -> None:
    """Say on standard error what could not be looked at; what was seen is shown all the same."""
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
