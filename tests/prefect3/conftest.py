"""A real Prefect server for each file of this tier, and a work pool of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect3.bed import Bed
from support.prefect3_server import Prefect3Server
from support.prefect3_venv import NEWEST


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of this tier; a server takes half a minute to start where the machine is busy."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.prefect3)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def newest_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect3Server]:
    """The newest server, as it is; to start one costs more than most tests do."""
    with Prefect3Server(tmp_path_factory.mktemp("prefect3")) as running:
        yield running


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect3Server]:
    """The newest server, or one of the version that the parameter names, or with the module's SERVER_ENVIRONMENT."""
    version = getattr(request, "param", NEWEST)
    environment = getattr(request.module, "SERVER_ENVIRONMENT", {})
    if version == NEWEST and not environment:
        yield request.getfixturevalue("newest_server")
        return
    with Prefect3Server(tmp_path_factory.mktemp("prefect3"), version, environment) as running:
        yield running


@pytest.fixture
def bed(server: Prefect3Server) -> Iterator[Bed]:
    """A work pool with a deployment, and agents of it."""
    with Bed(server, f"pool-{uuid.uuid4().hex[:8]}") as made:
        yield made
