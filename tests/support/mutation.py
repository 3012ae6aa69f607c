"""Answers of an API with something wrong in them, by chance: any value, at any depth, may become any other.

What is good is left as it is: rows of good flow runs, so that a test can tell that they start beside the bad ones.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Collection
from typing import Any

_RAW = "\ue000raw:"  # stands for text that is no Python value, until the answer is written
_DEEP = 5_000
_JUNK: tuple[Callable[[random.Random], Any], ...] = (
    lambda _: None,
    lambda _: True,
    lambda _: {},
    lambda _: [],
    lambda _: [[None]],
    lambda _: {"data": {"flow_run": [{"id": None}]}},
    lambda chance: chance.choice([-1, 0, 5, 2**31, 2**53 + 1, 2**63, 10**400, 1.5, -0.0]),
    lambda chance: _RAW + chance.choice(["NaN", "-Infinity", "1e999", "9" * 5_000, "nul", ""]),
    lambda chance: _RAW + chance.choice(["[" * _DEEP + "]" * _DEEP, '{"a":' * _DEEP + "1" + "}" * _DEEP, "[" * _DEEP]),
    lambda chance: chance.choice(
        ["", " ", "\0", "\ud800", "\x1b[2J\x1b]0;owned\x07", "\u202e", "x" * 70_000, "%s {0}"]
    ),
    lambda chance: chance.choice(["../../../../tmp/owned", "/etc/passwd", "a\0b", "-rf", "NaN", "null", "{", "[1, 2"]),
    lambda chance: chance.choice(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "now", "2026-02-30"]),
    lambda chance: chance.choice(["Running", "Submitted", "Scheduled", "Cancelling", "Nonsense", "SUCCESS"]),
)
_DOCUMENTS: tuple[Any, ...] = (
    {"errors": 5},
    {"errors": {"message": "x"}},
    {"errors": [5, None, "x"]},
    {"errors": [{"message": "no", "path": 5, "extensions": 5}], "data": None},
    {"errors": [{"message": {"a": [1]}, "path": {"a": 1}, "extensions": {"code": []}}]},
    {"errors": [{"path": [None, {}]}], "data": {}},
    {"data": 5},
    {"data": []},
    {"data": None},
    [],
    5,
    None,
    _RAW + "",
    _RAW + "{",
    _RAW + "<html>",
    _RAW + "[" * 100_000,
    _RAW + '{"data": ' * 3,
    _RAW + '{"data": {}, "data": {"flow_run": 5}}',
)


class Mutator:
    """Spoils answers. `good` holds the ids whose rows stay as they are; it may grow meanwhile."""

    def __init__(self, chance: random.Random, good: Collection[str]) -> None:
        self._chance = chance
        self._good = good

    def spoiled(self, content: bytes) -> bytes:
        """Return an answer with one to five things wrong in it, or one that has nothing to do with what was asked."""
        if self._chance.random() < 0.1:
            return self._as_bytes(self._chance.choice(_DOCUMENTS))
        answer = json.loads(content)
        for _ in range(self._chance.randint(1, 5)):
            self._mutate(answer)
        return self._as_bytes(answer)

    def _mutate(self, answer: Any) -> None:  # noqa: ANN401 - any JSON
        places = self._places(answer)
        if not places:
            return
        container, key = self._chance.choice(places)
        how = self._chance.random()
        if how < 0.7:
            container[key] = self._chance.choice(_JUNK)(self._chance)
        elif how < 0.8 and isinstance(container, dict):
            container[f"{key}'"] = container.pop(key)
        elif isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[f"{key} too"] = copy.deepcopy(container[key])

    def _places(self, answer: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401 - any JSON
        """Return every place that may be changed: nothing of a good row, nor what holds one."""
        places = _places(answer, self._good)
        holds_good = {id(container) for container, _, is_good in places if is_good}
        # what lies deeper comes later
        for container, key, _ in reversed(places):
            if id(container[key]) in holds_good:
                holds_good.add(id(container))
        return [(one, key) for one, key, is_good in places if not is_good and id(one[key]) not in holds_good]

    def _as_bytes(self, answer: Any) -> bytes:  # noqa: ANN401 - any JSON
        text = json.dumps(answer)
        for raw in self._raws(answer):
            text = text.replace(json.dumps(raw), raw.removeprefix(_RAW))
        content = text.encode()
        return content.replace(b"x" * 70_000, b"\xff" * 70_000) if self._chance.random() < 0.5 else content

    def _raws(self, answer: Any) -> set[str]:  # noqa: ANN401 - any JSON
        values = [answer, *(container[key] for container, key, _ in _places(answer, ()))]
        return {value for value in values if isinstance(value, str) and value.startswith(_RAW)}


def _places(value: Any, good: Collection[str]) -> list[tuple[Any, Any, bool]]:  # noqa: ANN401 - any JSON
    """Return every place of a JSON value: what holds it, its key or index there, and whether it is a good row or id."""
    found: list[tuple[Any, Any, bool]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        items = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
        for key, item in items:
            name = item.get("id") if isinstance(item, dict) else item
            is_good = isinstance(name, str) and name in good
            found.append((one, key, is_good))
            if not is_good:
                waiting.append(item)
    return found
