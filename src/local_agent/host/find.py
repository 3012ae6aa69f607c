"""Which flow run a person means: by its id, the beginning of its id, or its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_agent.errors import NotFoundError
from local_agent.host.table import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local_agent.host.reading.runs import Run

_MOST_NAMED = 5


def find_run(word: str, runs: Sequence[Run], past: Callable[[str], Sequence[Run]] | None = None) -> Run:
    """Given a word, return the run that it means: one that is here now, or else one of the past, where `past` is given.

    Raise NotFoundError where it means none, or several.
    """
    found = _fitting(word, runs)
    if not found and past is not None:
        found = _fitting(word, past(word))
    if not found:
        where = "now" if past is None else "now, and its journal tells of none"
        raise NotFoundError(
            f"no flow run {word!r} is on this host {where}", hint="local-agent ps -a lists those there are"
        )
    if len(found) > 1:
        named = ", ".join(f"{run.id} ({printable(run.name)})" for run in found[:_MOST_NAMED])
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        raise NotFoundError(f"{word!r} may mean {named}{more}", hint="give more of its id")
    return found[0]


def _fitting(word: str, runs: Sequence[Run]) -> list[Run]:
    """A whole id or name wins over the beginning of another's id."""
    exact = [run for run in runs if word in (run.id, run.name)]
    return exact or [run for run in runs if word and run.id.startswith(word.lower())]
