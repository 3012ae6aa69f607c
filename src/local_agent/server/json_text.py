"""JSON as clients send it: whatever a flow prints ends up in it."""

from __future__ import annotations

import json
from typing import Any

# How JSON writes half characters (a file name that is no UTF-8 becomes one) and NULs.
_SUSPICIOUS = ("\\ud", "\\u0000")


def parse(text: str | bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Given JSON, return its value, with half characters and NULs, which SQLite cannot keep, replaced.

    Raise ValueError for what is no JSON.
    """
    decoded = text if isinstance(text, str) else text.decode()
    value = json.loads(decoded)
    lowered = decoded.lower()
    return _clean(value) if any(each in lowered for each in _SUSPICIOUS) else value


def _clean(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, list):
        return [_clean(each) for each in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(each) for name, each in value.items()}
    return value
