"""Booted Debians for the tests of this folder: one boot per file and release, clean for each test."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from support.debian import RELEASES
from support.machine import Machine


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("booting a Debian needs root; `sudo make test` runs these, too")


@pytest.fixture(scope="module", params=RELEASES, ids=lambda release: f"debian{release}")
def booted(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine that all tests of a file share; ask for `machine` instead, which is reset after each test."""
    with Machine(request.param) as machine:
        yield machine


@pytest.fixture
def machine(booted: Machine) -> Iterator[Machine]:
    """A booted Debian with this checkout's agent installed and nothing of it running."""
    yield booted
    booted.reset()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the machine's journal with a failed test."""
    report = yield
    machine = getattr(item, "funcargs", {}).get("machine")
    if report.when == "call" and report.failed and isinstance(machine, Machine):
        report.sections.append((f"journal of Debian {machine.release}", machine.journal("-n", "100")))
    return report
