"""A process launcher over a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.launcher_bed import Bed


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """A fresh launcher."""
    fresh = Bed(tmp_path)
    yield fresh
    fresh.disk.close()
