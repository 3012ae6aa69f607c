"""What every test gets: it must leave nothing behind, no skip goes unseen, and coroutines run as tests.

The checks compare before and after, so what a module- or session-scoped fixture holds is not held against a
test that merely uses it. What such a fixture itself leaves fails the whole run, at its end.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import uuid
from collections.abc import Generator, Iterator
from typing import TypeVar

import pytest

from support.leftovers import MARKER, RecordingPolicy, Snapshot, TaskRecorder, left_since, take_snapshot
from support.signals import hear_ignored_signals

NO_SKIP = "LOCAL_AGENT_TESTS_NO_SKIP"

_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)
_TIERS = ("static", "unit", "api", "process", "chaos", "prefect", "bench", "browser", "system", "vm")
_RECORDER = pytest.StashKey[TaskRecorder]()
_AT_START = pytest.StashKey[Snapshot]()


def pytest_configure(config: pytest.Config) -> None:
    """Mark this run's processes, let them hear signals, and watch its event loops."""
    hear_ignored_signals()
    os.environ[MARKER] = uuid.uuid4().hex
    config.stash[_RECORDER] = TaskRecorder()
    asyncio.set_event_loop_policy(RecordingPolicy(config.stash[_RECORDER]))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remember what exists before the first test."""
    session.config.stash[_AT_START] = take_snapshot()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the quick tiers first."""
    items.sort(key=_tier_number)


def _tier_number(item: pytest.Item) -> int:
    tier = item.path.relative_to(item.config.rootpath / "tests").parts[0]
    return _TIERS.index(tier) if tier in _TIERS else len(_TIERS)


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves processes, threads, descriptors or asyncio tasks."""
    recorder = request.config.stash[_RECORDER]
    recorder.take()
    before = take_snapshot()
    yield
    if left := [*left_since(before), *recorder.take()]:
        pytest.fail("this test left behind:\n  " + "\n  ".join(left), pytrace=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when the longer-lived fixtures left something."""
    left = left_since(session.config.stash[_AT_START])
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    for line in left:
        print(f"\nLEFT BEHIND by the whole run: {line}")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where nothing may be skipped."""
    report = yield
    return _skip_fails(report) if report.skipped and not hasattr(report, "wasxfail") else report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a file that skips itself while it is collected."""
    report = yield
    return _skip_fails(report) if report.skipped else report


def _skip_fails(report: _Report) -> _Report:
    if os.environ.get(NO_SKIP) == "1":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: {NO_SKIP}=1 allows no skip, but: {reason}"
    return report
