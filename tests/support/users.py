"""Programs of the tests that run as another user, with this checkout."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

_TESTS = Path(__file__).parents[1]


def as_another_user() -> tuple[str, ...]:
    """Return the words before a command that run it as a user whom nobody else has: its processes are counted.

    It may read the checkout and write the tests' folders, and has no other privilege.
    """
    user = 1_000_000 + secrets.randbelow(1_000_000_000)
    capability = "+dac_override"
    ids = (f"--reuid={user}", f"--regid={user}", "--clear-groups")
    return "setpriv", *ids, f"--inh-caps={capability}", f"--ambient-caps={capability}"


def environment() -> dict[str, str]:
    """Return the environment for a Python program that imports the agent's modules and the tests' support."""
    return {**os.environ, "PYTHONPATH": f"{_TESTS}:{_TESTS.parent / 'src'}"}


@contextlib.contextmanager
def open_folder(mode: int) -> Iterator[Path]:
    """Make a folder that another user can reach, for the length of the context: pytest's own are root's alone."""
    with tempfile.TemporaryDirectory(prefix="open-") as name:
        folder = Path(name)
        folder.chmod(mode)
        yield folder
