"""A process launcher over a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.launcher_bed import Bed


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    """A fresh launcher."""
    return Bed(tmp_path)
