"""Tests that break things again and again have two forms: a short one in `make test`, and `make chaos`."""

from __future__ import annotations

import os

_VARIABLE = "LOCAL_AGENT_TESTS_CHAOS"


def is_long_form() -> bool:
    """Tell whether this is `make chaos`."""
    return os.environ.get(_VARIABLE) == "long"
