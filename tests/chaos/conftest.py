"""Two forms of each test: a short one in `make test`, with a seed that is always the same, and `make chaos`."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from support.long_form import is_long_form

_SEED = "LOCAL_AGENT_TESTS_SEED"
_SHORT_FORM_SEED = 4

# its short form is the upgrade in tests/package, and the restarts in tests/system/ends
collect_ignore = [] if is_long_form() else ["test_upgrades.py"]


@pytest.fixture(scope="session")
def long_form() -> bool:
    """Whether this is `make chaos`."""
    return is_long_form()


@pytest.fixture
def seed(long_form: bool) -> int:
    """What all chance of a test follows from. Printed: SEED=... with `make chaos` gives the same again."""
    given = os.environ.get(_SEED)
    number = int(given) if given else random.SystemRandom().randrange(1_000_000) if long_form else _SHORT_FORM_SEED
    print(f"seed {number}: make chaos SEED={number}")
    return number


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Path]:
    """Gives a folder for each agent by name."""
    return lambda name: tmp_path / name
