"""Each kind of API and each launcher in turn, for the one suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.ground import Ground
from contract.local_ground import LocalGround, process_ground
from contract.prefect1 import prefect1
from contract.side import Made
from contract.toy_launcher import ToyGround
from contract.toy_side import toy
from support.api import Api


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An embedded API that refuses no second claim: so a run that was given back is taken again at once."""
    with Api(tmp_path_factory.mktemp("contract-api") / "server.db", options=["--no-submit-lock"]) as running:
        yield running


def _prefect1(request: pytest.FixtureRequest) -> Made:
    api: Api = request.getfixturevalue("api")
    return lambda: prefect1(api)


SIDES: dict[str, Callable[[pytest.FixtureRequest], Made]] = {"prefect1": _prefect1, "toy": lambda _: toy}


@pytest.fixture(scope="session", params=SIDES)
def made(request: pytest.FixtureRequest) -> Made:
    """What makes the side of a kind of API; what its sides share lives as long as the whole run."""
    return SIDES[request.param](request)


GROUNDS: dict[str, Callable[[Path], LocalGround | ToyGround]] = {
    "process": process_ground,
    "toy": lambda _: ToyGround(),
}


@pytest.fixture(params=GROUNDS)
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """The ground of each launcher that can run here; that of `scope` is in the system tier."""
    fresh = GROUNDS[request.param](tmp_path)
    yield fresh
    fresh.close()
