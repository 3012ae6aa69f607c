"""What every test gets: it must leave nothing behind, no skip goes unseen, and coroutines run as tests.

The checks compare before and after, so what a module- or session-scoped fixture holds is not held against a
test that merely uses it. What such a fixture itself leaves fails the whole run, at its end.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import uuid
from collections.abc import Generator, Iterator, Sequence
from typing import Any, TypeVar

import pytest

from support.leftovers import MARKER, RecordingPolicy, Snapshot, TaskRecorder, left_since, take_snapshot
from support.side_by_side import number_of_workers, turn
from support.signals import hear_ignored_signals

NO_SKIP = "LOCAL_AGENT_TESTS_NO_SKIP"

_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)
_TIERS = (
    "static",
    "unit",
    "api",
    "contract",
    "process",
    "chaos",
    "prefect",
    "prefect3",
    "bench",
    "browser",
    "system",
    "vm",
    "package",
)
# side by side what takes longest goes first, and what is short fills the end; what runs alone is last
_LONGEST_FIRST = (
    "vm",
    "package",
    "chaos",
    "prefect3",
    "prefect",
    "system",
    "process",
    "browser",
    "static",
    "api",
    "contract",
    "unit",
    "bench",
)
_RECORDER = pytest.StashKey[TaskRecorder]()
_AT_START = pytest.StashKey[Snapshot]()
_LEFT_BY_WORKERS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Mark this run's processes, let them hear signals, and watch its event loops."""
    hear_ignored_signals()
    os.environ[MARKER] = uuid.uuid4().hex
    config.stash[_LEFT_BY_WORKERS] = []
    config.stash[_RECORDER] = TaskRecorder()
    asyncio.set_event_loop_policy(RecordingPolicy(config.stash[_RECORDER]))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remember what exists before the first test."""
    session.config.stash[_AT_START] = take_snapshot()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the quick tiers first; side by side, the long ones."""
    if _is_worker(config):
        items.sort(key=lambda item: (_runs_alone(item), _place_in(_LONGEST_FIRST, item)))
    else:
        items.sort(key=lambda item: _place_in(_TIERS, item))


def _place_in(tiers: Sequence[str], item: pytest.Item) -> int:
    tier = item.path.relative_to(item.config.rootpath / "tests").parts[0]
    return tiers.index(tier) if tier in tiers else len(tiers)


def _is_worker(config: pytest.Config) -> bool:
    """Whether this is one of the processes that pytest-xdist runs tests in."""
    return hasattr(config, "workerinput")


def _runs_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


# Outermost, so that no test's time-out runs while it waits for its turn
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a worker run a test that measures something while the others stand still."""
    if not _is_worker(item.config):
        return (yield)
    with turn(item.config.rootpath, alone=_runs_alone(item)):
        return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Choose the number of workers for `-n auto`."""
    return number_of_workers()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:  # noqa: ANN401 - xdist's
    """Choose what a worker gets as one."""
    from support.scheduling import FilesAndMachines

    return FilesAndMachines(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - xdist's
    """Take a worker's word for what it left. One that crashed says nothing, and fails the run by that."""
    node.config.stash[_LEFT_BY_WORKERS] += getattr(node, "workeroutput", {}).get("left", [])


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
    left = _left_by_run(session.config)
    if _is_worker(session.config):
        vars(session.config)["workeroutput"]["left"] = left
        return
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    for line in left:
        print(f"\nLEFT BEHIND by the whole run: {line}")


def _left_by_run(config: pytest.Config) -> list[str]:
    """Return what this process's tests left, or what its workers say of theirs: they are its own processes."""
    if config.pluginmanager.hasplugin("dsession"):
        return config.stash[_LEFT_BY_WORKERS]
    return left_since(config.stash[_AT_START])


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
