"""An API for each test, and one process for those that need HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.server.local import LocalApi, local_api
from support.api import Api


@pytest.fixture
def api(tmp_path: Path) -> Iterator[LocalApi]:
    """A fresh API within this process."""
    with local_api(tmp_path / "server.db") as fresh:
        yield fresh


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One API in a process of its own for a whole file of tests."""
    with Api(tmp_path_factory.mktemp("api") / "server.db") as running:
        yield running
