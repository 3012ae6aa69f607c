"""Labels of flow runs: kept sorted, each once, so that equal sets are equal texts and an index finds them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Protocol

from local_agent.server.input.json_text import to_json
from local_agent.server.input.refusals import RefusedError

# Each label of an agent costs a look into the index at every poll; nobody has so many.
MOST = 300


def sorted_once(given: Iterable[str]) -> list[str]:
    """Return labels as they are kept. Raise RefusedError for more than any run or agent has."""
    once = sorted(set(given))
    if len(once) > MOST:
        raise RefusedError(f"At most {MOST} labels are taken, not {len(once)}")
    return once


def normalise_all(connection: sqlite3.Connection) -> None:
    """Sort the labels of runs that an earlier version stored as they came, some of them twice."""
    changed = []
    for rowid, text in connection.execute("SELECT rowid, labels FROM flow_run WHERE labels <> '[]'"):
        kept = to_json(sorted_once(json.loads(text)[:MOST]))
        if kept != text:
            changed.append((kept, rowid))
    connection.executemany("UPDATE flow_run SET labels = ? WHERE rowid = ?", changed)


class Looks(Protocol):
    """Looks into an index over label sets."""

    def has(self, text: str) -> bool:
        """Say whether a run has just these labels, as JSON."""

    def has_longer(self, text: str) -> bool:
        """Say whether a run has labels that begin with this text (`["a"`) and go on."""


def fitting_sets(agent_labels: Iterable[str], looks: Looks) -> Iterator[str]:
    """Yield the label sets (as JSON) of runs that an agent may take: subsets of its own, and [] only if it has none.

    Only beginnings that are there are followed: with runs labelled ["a","b"] and ["x"], an agent with a, b, c looks
    for ["a" ..., then ["a","b" ..., ["a","c" ...; then for ["b" ... and ["c" .... However many sets others have, they
    cost nothing.
    """
    own = sorted_once(agent_labels)
    if not own:
        yield "[]"
        return
    yield from _fitting(own, "[", looks)


def _fitting(own: list[str], begun: str, looks: Looks) -> Iterator[str]:
    for number, label in enumerate(own):
        text = begun + to_json(label)
        if looks.has(f"{text}]"):
            yield f"{text}]"
        if looks.has_longer(f"{text},"):
            yield from _fitting(own[number + 1 :], f"{text},", looks)
