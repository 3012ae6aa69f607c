"""New limits for a flow run that runs: from `memory=8G` to the properties of its scope."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_agent.errors import ConfigError
from local_agent.settings.findings import did_you_mean
from local_agent.settings.model import LIMIT_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

# what a person types -> the limit, and the property of a scope that it is (systemd.resource-control(5))
_NAMES = {
    "memory": ("memory_max_bytes", "MemoryMax"),
    "memory_high": ("memory_high_bytes", "MemoryHigh"),
    "cpu": ("cpu_quota_percent", "CPUQuota"),
    "cpu_weight": ("cpu_weight", "CPUWeight"),
    "io_weight": ("io_weight", "IOWeight"),
    "tasks": ("tasks_max", "TasksMax"),
}
_SETTINGS = {"memory_max": "memory", "cpu_quota": "cpu", "tasks_max": "tasks"}  # as the configuration calls them
_NO_LIMIT = {"MemoryMax": "infinity", "MemoryHigh": "infinity", "TasksMax": "infinity"}
_NONE = ("none", "infinity", "")


def properties_of(given: Sequence[str]) -> list[str]:
    """Given "memory=8G" and the like, return what `systemctl set-property` takes. Raise ConfigError, all at once."""
    properties: list[str] = []
    problems: list[str] = []
    for word in given:
        try:
            properties += _properties(word)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(
            "these are no limits:",
            problems=tuple(problems),
            hint="as in: local-agent set RUN memory=8G cpu=200% tasks=none",
        )
    return properties


def _properties(word: str) -> list[str]:
    name, equals, text = word.partition("=")
    name = _SETTINGS.get(name, name)
    if not equals or name not in _NAMES:
        likely = did_you_mean(name, _NAMES)
        hint = f"did you mean {likely}?" if likely else f"there are {', '.join(_NAMES)}"
        raise ValueError(f"{word}: there is no such limit of a flow run that runs; {hint}")
    attribute, unit_property = _NAMES[name]
    if text.lower() in _NONE:
        return _as_given(unit_property, _NO_LIMIT.get(unit_property, ""), "infinity")
    try:
        value = LIMIT_OPTIONS[attribute].kind.parse(text)
    except ValueError as error:
        raise ValueError(f"{word}: {error}") from error
    return _as_given(unit_property, f"{value}%" if unit_property == "CPUQuota" else str(value), "0")


def _as_given(unit_property: str, value: str, swap: str) -> list[str]:
    """Without a limit of swap, what exceeds a limit of memory goes there and nothing is limited."""
    properties = [f"{unit_property}={value}"]
    return [*properties, f"MemorySwapMax={swap}"] if unit_property == "MemoryMax" else properties
