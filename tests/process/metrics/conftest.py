"""An embedded API for the agents of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.api import Api


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API."""
    with Api(tmp_path_factory.mktemp("metrics-api") / "server.db") as running:
        yield running
