"""One embedded API for all tests of the agent as a process; each agent has a label of its own there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api import Api


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API."""
    with Api(tmp_path_factory.mktemp("agent-api") / "server.db") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The agent's folder."""
    return tmp_path / "agent"
