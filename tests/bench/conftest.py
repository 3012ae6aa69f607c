"""The short form of `make bench`: an API and agents of both sides, as there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.bed import Bed
from bench.model import PROCESS
from support.api import Api
from support.prefect_venv import prefect_python


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """Where figures are measured, for one round."""
    with Api(tmp_path / "server.db") as api:
        yield Bed(tmp_path / "bed", api, prefect_python(), PROCESS, rounds=1)
