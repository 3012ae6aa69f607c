"""Whether the running agent uses the settings that its files and its unit say now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_agent.host.doctor.check import Finding, warning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_agent.host.reading.in_use import InUse
    from local_agent.host.reading.instances import Instance

_CHECK = "settings in use"
# how a key comes here differs, and of secrets both have the same mask
_NOT_COMPARED = frozenset({"api_key", "api_key_file"})


def check_in_use(instance: Instance, used: InUse, given: Mapping[str, object]) -> list[Finding]:
    """Given what an agent told, and what a start would use now, return what waits; nothing where all is in use.

    `given` is each setting's value, and empty where that is not known. The agent knows of its files, only the unit
    knows of its variables and command line.
    """
    settings = used.told["settings"]
    differs = [key for key in given if key not in _NOT_COMPARED and _value_in(settings, key) != given[key]]
    of_unit = [key for key in differs if key not in (*used.waiting.reload, *used.waiting.restart)]
    findings = []
    if restart := [*used.waiting.restart, *of_unit]:
        evidence = f"{', '.join(restart)} changed and waits for a restart"
        findings.append(warning(_CHECK, evidence, instance.how_to_restart, instance.name))
    if used.waiting.reload:
        evidence = f"{', '.join(used.waiting.reload)} changed since the agent read it"
        findings.append(warning(_CHECK, evidence, instance.how_to_reload, instance.name))
    return findings


def _value_in(settings: Mapping[str, object], key: str) -> object:
    told = settings.get(key)
    return told.get("value") if isinstance(told, dict) else None
