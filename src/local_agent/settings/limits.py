"""The limits of one flow run: what it asked for, what is usual, and what it may not exceed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_agent.limits import Limits
from local_agent.settings.findings import did_you_mean
from local_agent.settings.model import LIMIT_OPTIONS
from local_agent.settings.option import VARIABLE_PREFIX, Option

# What None means where a ceiling is below it.
_USUAL = {"cpu_weight": 100, "io_weight": 100, "nice": 0}


def parse_hints(asked: Mapping[str, object], defaults: Limits, ceilings: Limits) -> tuple[Limits, tuple[str, ...]]:
    """Given what a flow run asked for, name -> text, return its limits and what was wrong.

    A name is that of the table `limits` (memory_max) or of its variable (LOCAL_AGENT_MEMORY_MAX). Each hint wins over
    the default, none goes above its ceiling. One that cannot be read leaves the default. Every problem is a sentence
    for the flow run's log, and begins with the name as it was written.
    """
    problems: list[str] = []
    limits: dict[str, Any] = {
        attribute: _limit(
            attribute, option, asked, (getattr(defaults, attribute), getattr(ceilings, attribute)), problems
        )
        for attribute, option in LIMIT_OPTIONS.items()
    }
    problems.extend(_misspelt(asked))
    return Limits(**limits), tuple(problems)


def _limit(
    attribute: str,
    option: Option,
    hints: Mapping[str, object],
    default_and_ceiling: tuple[float | None, float | None],
    problems: list[str],
) -> float | None:
    default, ceiling = default_and_ceiling
    name = next((name for name in (option.key, option.variable) if hints.get(name) not in (None, "")), "")
    asked, is_hint = _asked(name, option, hints, default, problems)
    if ceiling is None or not _exceeds(attribute, asked, ceiling):
        return asked
    if is_hint and asked is not None:
        what = f"{option.kind.show(asked)} is above this agent's ceiling"
        problems.append(f"{name}: {what}; {option.kind.show(ceiling)} is used")
    return ceiling


def _asked(
    name: str, option: Option, hints: Mapping[str, object], default: float | None, problems: list[str]
) -> tuple[float | None, bool]:
    """What the flow run asked for by this name, or the default, and whether it asked; "" where it gave none."""
    if not name:
        return default, False
    try:
        asked: float | None = option.kind.parse(hints[name])
    except ValueError as error:
        used = "no limit" if default is None else option.kind.show(default)
        problems.append(f"{name}: {error}; write {option.kind.noun}; the default is used: {used}")
        return default, False
    return asked, True


def _exceeds(attribute: str, asked: float | None, ceiling: float) -> bool:
    value = _USUAL.get(attribute) if asked is None else asked
    if value is None:
        return True
    return value < ceiling if attribute == "nice" else value > ceiling


def _misspelt(hints: Mapping[str, object]) -> list[str]:
    """Variables that look like a hint and are none. Others of our prefix may be the flow's own business."""
    known = {
        option.variable.removeprefix(VARIABLE_PREFIX).lower(): option.variable for option in LIMIT_OPTIONS.values()
    }
    problems = []
    for name in hints:
        if name.startswith(VARIABLE_PREFIX) and name not in known.values():
            likely = did_you_mean(name.removeprefix(VARIABLE_PREFIX), known, cutoff=0.8)
            if likely:
                problems.append(f"{name}: there is no such hint; did you mean {known[likely]}?")
    return problems
