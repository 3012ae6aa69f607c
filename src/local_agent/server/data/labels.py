"""Labels of flow runs: kept sorted, each once, so that equal sets are equal texts and an index finds them."""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left
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
    """A look into an index over label sets."""

    def first_after(self, text: str) -> str | None:
        """Return the first set of labels, as JSON, that comes after this text; None if there is no more."""


# What a poll may hold up the others for: 5000 looks take about 50 ms. An agent has some labels, and few sets fit.
MAX_LOOKS = 5000


def fitting_sets(agent_labels: Iterable[str], looks: Looks) -> Iterator[str]:
    """Yield the label sets (as JSON) of runs that an agent may take: subsets of its own, and [] only if it has none.

    The index is read like a dictionary, from one word that may fit to the next. Example: an agent with a, b, c, runs
    with ["a","b"], ["a","x"], ["a","y"] and ["b"]. After `["a"` and `["a","b"]` comes ["a","x"]; no c can follow before
    it, so all that begins with ["a", is passed over, and the next look is for ["b". However many sets others have, they
    cost nothing: each look finds a set that fits, or ends a beginning that does. Raise RefusedError after MAX_LOOKS.
    """
    own: list[str] = sorted(map(to_json, sorted_once(agent_labels)))
    if not own:
        yield "[]"
        return
    place: str | None = "["
    for _ in range(MAX_LOOKS):
        found = None if place is None else looks.first_after(place)
        if found is None:
            return
        there: list[str] = [to_json(label) for label in json.loads(found)]
        strange = next((number for number, label in enumerate(there) if not _is_in(own, label)), None)
        if there and strange is None:
            yield found
        place = found if strange is None else _place_after(there[:strange], there[strange], own)
    raise RefusedError(f"The labels fit the beginnings of more sets of runs' labels than {MAX_LOOKS} looks find")


def _is_in(own: list[str], label: str) -> bool:
    place = bisect_left(own, label)
    return place < len(own) and own[place] == label


def _place_after(begun: list[str], strange: str, own: list[str]) -> str | None:
    """Return the text after which the next set may fit, given labels that fit and one after them that does not.

    No label is the beginning of another, as each ends with a quotation mark: so they are in the order of their sets.
    """
    later = bisect_left(own, strange)
    if later < len(own):
        return "[" + ",".join([*begun, own[later]])
    # All that go on after a comma are over; the set that ends here is left, with a bracket, and "-" lies between both.
    return "[" + ",".join(begun) + "-" if begun else None
