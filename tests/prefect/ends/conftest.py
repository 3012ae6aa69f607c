"""One API with real flows, and agents that run them as plain processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import real_flows
from support.agent import AgentProcess
from support.api import Api
from support.checkout import CHECKOUT
from support.prefect_venv import prefect_python

LABEL = "ends"

StartAgent = Callable[..., AgentProcess]


@pytest.fixture(scope="package")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The embedded API."""
    with Api(tmp_path_factory.mktemp("api") / "server.db") as running:
        yield running


@pytest.fixture(scope="package")
def environment(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What prefect is to know."""
    return real_flows.environment(api.url, str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="package")
def flows(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Real flows: name -> id."""
    done = subprocess.run(
        [prefect_python(), str(CHECKOUT / "tests/support/real_flows.py"), LABEL],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return real_flows.registered(done.stdout)


@pytest.fixture
def start_agent(api: Api, environment: Mapping[str, str], tmp_path: Path) -> Iterator[StartAgent]:
    """Starts our agent with more options."""
    with ExitStack() as stack:

        def start(*options: str) -> AgentProcess:
            agent = AgentProcess(
                tmp_path / "agent",
                api.url,
                *("--label", LABEL, "--poll-interval", "1", *options),
                python=f'exec {prefect_python()} "$@"',
                environ=environment,
            )
            return stack.enter_context(agent)

        yield start
