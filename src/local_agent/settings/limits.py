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


def parse_hints(env: Mapping[str, object], defaults: Limits, ceilings: Limits) -> tuple[Limits, tuple[str, ...]]:
    """Given the environment that a flow run asked for (its run_config's), return its limits and what was wrong.

    LOCAL_AGENT_MEMORY_MAX, CPU_QUOTA and so on are hints: each wins over the default, none goes above its ceiling.
    A hint that cannot be read leaves the default. Every problem is a sentence for the flow run's log.
    """
    problems: list[str] = []
    limits: dict[str, Any] = {
        attribute: _limit(
            attribute, option, env, (getattr(defaults, attribute), getattr(ceilings, attribute)), problems
        )
        for attribute, option in LIMIT_OPTIONS.items()
    }
    problems.extend(_misspelt(env))
    return Limits(**limits), tuple(problems)


def _limit(
    attribute: str,
    option: Option,
    env: Mapping[str, object],
    default_and_ceiling: tuple[float | None, float | None],
    problems: list[str],
) -> float | None:
    default, ceiling = default_and_ceiling
    asked, is_hint = _asked(option, env, default, problems)
    if ceiling is None or not _exceeds(attribute, asked, ceiling):
        return asked
    if is_hint and asked is not None:
        what = f"{option.kind.show(asked)} is above this agent's ceiling"
        problems.append(f"{option.variable}: {what}; {option.kind.show(ceiling)} is used")
    return ceiling


def _asked(
    option: Option, env: Mapping[str, object], default: float | None, problems: list[str]
) -> tuple[float | None, bool]:
    """What the flow run asked for, or the default, and whether it asked."""
    given = env.get(option.variable)
    if given is None or given == "":
        return default, False
    try:
        asked: float | None = option.kind.parse(given)
    except ValueError as error:
        used = "no limit" if default is None else option.kind.show(default)
        problems.append(f"{option.variable}: {error}; write {option.kind.noun}; the default is used: {used}")
        return default, False
    return asked, True


def _exceeds(attribute: str, asked: float | None, ceiling: float) -> bool:
    value = _USUAL.get(attribute) if asked is None else asked
    if value is None:
        return True
    return value < ceiling if attribute == "nice" else value > ceiling


def _misspelt(env: Mapping[str, object]) -> list[str]:
    """Variables that look like a hint and are none. Others of our prefix may be the flow's own business."""
    known = {
        option.variable.removeprefix(VARIABLE_PREFIX).lower(): option.variable for option in LIMIT_OPTIONS.values()
    }
    problems = []
    for name in env:
        if name.startswith(VARIABLE_PREFIX) and name not in known.values():
            likely = did_you_mean(name.removeprefix(VARIABLE_PREFIX), known, cutoff=0.8)
            if likely:
                problems.append(f"{name}: there is no such hint; did you mean {known[likely]}?")
    return problems
