"""One API, and one registration of flows with the real client, for all these tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api import Api
from support.real_prefect import Prefect

_REGISTRATION = Path(__file__).with_name("registration.py")


@pytest.fixture(scope="package")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API for the real client."""
    with Api(tmp_path_factory.mktemp("real") / "server.db") as running:
        yield running


@pytest.fixture(scope="package")
def prefect(tmp_path_factory: pytest.TempPathFactory, api: Api) -> Iterator[Prefect]:
    """The real prefect, pointed at the API. No process of it is left at the end."""
    installed = Prefect(tmp_path_factory.mktemp("home"), api)
    yield installed
    installed.wait_until_gone()


@pytest.fixture(scope="package")
def flows(prefect: Prefect) -> dict[str, str]:
    """The ids of the flows that the real client has registered, by name."""
    ids: dict[str, str] = json.loads(prefect.run(str(_REGISTRATION)).splitlines()[-1])
    return ids
