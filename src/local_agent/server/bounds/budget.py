"""What one request may cost: bounds that no client of Prefect reaches, and that keep one request from taking all.

Each bound has its own error, which names it. The real Server's front takes 5 MB and queries that are 7 deep.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """The bounds of a request. Those of its document are looked at before it is validated (costs.py)."""

    # Of the text of a document. The largest that Prefect sends has 1.5 kB; its values travel as variables.
    document_bytes: int = 64 * 1024
    # Parsing and validation take about 6 ms for 1000 of them.
    tokens: int = 15_000
    # Selections within selections; the real Server allows 7.
    depth: int = 15
    # Objects in a variable that is a filter: each is compared with every field of its type.
    filter_objects: int = 1000
    # Objects and lists within the arguments of a field.
    value_depth: int = 30
    # Fields of the operation itself: this agent sends at most 100 mutations at once.
    root_fields: int = 500
    # The same field by the same name beside itself: validation compares each with each.
    same_fields: int = 30
    # Fields in all, with those of a fragment counted wherever it is used.
    fields: int = 2000
    # Fragments that a document defines: Prefect uses none, its user interface a few.
    fragments: int = 30
    # Variables of an operation.
    variables: int = 600
    # Directives in the whole document.
    directives: int = 100
    # Conditions in one statement's filters, and ids or other values beside each other in them.
    conditions: int = 400
    # Rows of an answer, and its size.
    rows: int = 100_000
    answer_bytes: int = 32 * 1024 * 1024
    # From the first look at a request to its last row, waiting for its turn included.
    seconds: float = 0.8
    # A read that takes longer is stopped and read again beside the others (lanes.py); of a document that took longer
    # than a moment that is remembered.
    short_seconds: float = 0.01
    moment_seconds: float = 0.002
    # Those that are known to take no longer than this do not wait behind those that do.
    while_seconds: float = 0.1
    # Larger bodies, and larger documents that are not known yet, are parsed beside the others (gate.py). Small new ones
    # have this share of the time in all: a hundred at once, and 15 % of each second.
    quick_body_bytes: int = 256 * 1024
    quick_body_objects: int = 5_000
    quick_document_bytes: int = 1500
    new_share: float = 0.15
    new_seconds: float = 0.3
    # Of its thread's own time for the mutations of one request, and after how long others have their turn.
    write_seconds: float = 0.8
    turn_seconds: float = 0.001
    alone_seconds: float = 0.05


DEFAULT = Budget()
