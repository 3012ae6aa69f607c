"""The settings for people and for programs: each value and where it came from, no secret among them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from local_agent.plain import without_credentials
from local_agent.settings.kinds import plain
from local_agent.settings.model import OPTIONS, Settings
from local_agent.settings.option import Option, Source
from local_agent.settings.secret import MASK

_SOUNDS_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|DSN", re.IGNORECASE)


def masked_env(env: Mapping[str, str]) -> dict[str, str]:
    """Given variables, return them with the values masked whose names sound secret, and passwords in URLs."""
    return {name: MASK if _SOUNDS_SECRET.search(name) else without_credentials(value) for name, value in env.items()}


def _safe(option: Option, value: object) -> object:
    if option.key == "env" and isinstance(value, Mapping):
        return masked_env(value)
    if option.key == "api":
        return option.kind.show(value)
    return without_credentials(value) if isinstance(value, str) else value


def as_json(settings: Settings) -> dict[str, object]:
    """Given the settings, return what `local-agent config --json` prints."""
    return {
        "settings": {
            option.key: {
                "value": plain(_safe(option, settings.get(option))),
                "source": _source_json(settings.sources[option.key]),
            }
            for option in OPTIONS
        },
        "effective_labels": list(settings.effective_labels),
        "files": [str(path) for path in settings.files],
        "warnings": list(settings.warnings),
    }


def _source_json(source: Source) -> dict[str, str | None]:
    path = None if source.path is None else str(source.path)
    return {"kind": source.kind.value, "name": source.name or None, "path": path}


def as_lines(settings: Settings) -> Iterator[str]:
    """Given the settings, yield the lines that `local-agent config` prints: key, value, where it came from."""
    rows = [(o.key, _shown(o, settings.get(o)), str(settings.sources[o.key])) for o in OPTIONS]
    key_width = max(len(key) for key, _, _ in rows)
    value_width = min(40, max(len(value) for _, value, _ in rows))
    for key, value, source in rows:
        yield f"{key:<{key_width}}  {value:<{value_width}}  {source}"
    yield ""
    yield f"takes flow runs {_asked_for(settings)}"
    yield f"files read: {', '.join(map(str, settings.files)) or 'none'}"


def _asked_for(settings: Settings) -> str:
    if settings.protocol == "prefect1":
        return f"with labels among: {', '.join(settings.effective_labels) or '(only runs without labels)'}"
    queues = f", queues {', '.join(settings.work_queues)}" if settings.work_queues else ""
    return f"of work pool {settings.pool or '(none is named: --pool)'}{queues}"


def _shown(option: Option, value: object) -> str:
    value = _safe(option, value)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return " ".join(f"{name}={item!r}" for name, item in value.items()) or "none"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return str(option.kind.show(value))
