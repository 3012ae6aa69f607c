"""Programs of the tests that run as another user, with this checkout."""

from __future__ import annotations

import os
from pathlib import Path

_TESTS = Path(__file__).parents[1]

# a user of the tests' own; it may read the checkout and write their folders, and has no other privilege
AS_ANOTHER_USER = (
    *("setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"),
    *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
)


def environment() -> dict[str, str]:
    """Return the environment for a Python program that imports the agent's modules and the tests' support."""
    return {**os.environ, "PYTHONPATH": f"{_TESTS}:{_TESTS.parent / 'src'}"}
