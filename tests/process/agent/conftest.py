"""One embedded API for all tests of the agent as a process; each agent has a label of its own there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api import Api

_PATIENCE_SECONDS = 180  # longer than any single wait within a test, so that the wait says what it waited for


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder more time than others: each starts an agent, some start two hundred flow runs."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(_PATIENCE_SECONDS))


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API."""
    with Api(tmp_path_factory.mktemp("agent-api") / "server.db") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The agent's folder."""
    return tmp_path / "agent"
