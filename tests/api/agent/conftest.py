"""Two embedded APIs for all tests of the backend, and a proxy for each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.api import Api
from support.faults import FaultyProxy


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that refuses a second claim for 30 s, as the real Server does."""
    with Api(tmp_path_factory.mktemp("backend-api") / "server.db") as running:
        yield running


@pytest.fixture(scope="session")
def lockless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that refuses none, as a Server of several replicas does."""
    with Api(tmp_path_factory.mktemp("lockless-api") / "server.db", options=["--no-submit-lock"]) as running:
        yield running


@pytest.fixture
def proxy(api: Api) -> Iterator[FaultyProxy]:
    """What goes wrong between the backend and the API."""
    with FaultyProxy(api.url) as running:
        yield running


@pytest.fixture
def lockless_proxy(lockless: Api) -> Iterator[FaultyProxy]:
    """The same before the API without a lock."""
    with FaultyProxy(lockless.url) as running:
        yield running
