"""Prefect 3's own configuration, as far as its variables say it: PREFECT_API_URL and what lets a client in.

Its profiles.toml is not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_agent.settings.option import Given, Layer, Source, SourceKind

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_API = "http://127.0.0.1:4200/api"
_VARIABLES = {
    "PREFECT_API_URL": "api",
    "PREFECT_API_KEY": "api_key",
    "PREFECT_API_AUTH_STRING": "auth_string",
}


def variables_of_prefect3(environ: Mapping[str, str]) -> Layer:
    """Given the environment, return what Prefect's variables say of our options."""
    return {
        key: Given(environ[name], Source(SourceKind.VARIABLE, name))
        for name, key in _VARIABLES.items()
        if environ.get(name)
    }
