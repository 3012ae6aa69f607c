"""Which flow run a person means: by its id, the beginning of its id, or its name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from local_agent.errors import NotFoundError
from local_agent.host.table import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local_agent.host.reading.runs import Run

_MAX_NAMED = 5
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHOWN_ID = re.compile(r"[0-9a-f]{8}[0-9a-f-]*")  # as much of one as tables and hints show, or more


def find_run(word: str, runs: Sequence[Run], past: Callable[[str], Sequence[Run]] | None = None) -> Run:
    """Given a word, return the run that it means: one that is here now, or else one of the past, where `past` is given.

    Raise NotFoundError where it means none, or several.
    """
    found = _fitting(word, runs)
    if past is not None and not found:
        found = _fitting(word, past(word))
    elif past is not None and _is_id(word) and not any(_has_id(run, word) for run in found):
        # a run of now whose name is the beginning of an earlier one's id does not hide it
        found += [run for run in past(word) if _has_id(run, word)]
    if not found:
        where = "now" if past is None else "now, and its journal tells of none"
        raise NotFoundError(
            f"no flow run {word!r} is on this host {where}", hint="local-agent ps -a lists those there are"
        )
    if len(found) > 1:
        named = ", ".join(f"{run.id} ({printable(run.name)})" for run in found[:_MAX_NAMED])
        more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
        raise NotFoundError(f"{word!r} may mean {named}{more}", hint="give more of its id")
    return found[0]


def _fitting(word: str, runs: Sequence[Run]) -> list[Run]:
    """A whole id means itself alone, and a whole name wins over the beginning of another's id.

    Not over so much of an id as is shown: whoever may name a flow run would have commands meet it in another's place.
    """
    if _WHOLE_ID.fullmatch(word.lower()):
        return [run for run in runs if run.id == word.lower()]
    exact = [run for run in runs if word in (run.id, run.name)]
    beginning = [run for run in runs if word and _has_id(run, word) and run not in exact]
    return [*exact, *beginning] if _is_id(word) or not exact else exact


def _is_id(word: str) -> bool:
    return _SHOWN_ID.fullmatch(word.lower()) is not None


def _has_id(run: Run, word: str) -> bool:
    return run.id.startswith(word.lower())
