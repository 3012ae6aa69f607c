"""Requests that come at the same time share a transaction: one commit for all, and each only loses its own."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from local_agent.server.refusals import LostTransactionError
from local_agent.server.transactions import Transactions
from support.api import Api
from support.api_client import wait_until

SECONDS = 60


class Bed:
    """A table with one column, and threads that write into it."""

    def __init__(self, data: Path) -> None:
        self._now = 0.0
        self.connection = sqlite3.connect(data, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("CREATE TABLE written (what TEXT)")
        self.statements: list[str] = []
        self.connection.set_trace_callback(self.statements.append)
        self.transactions = Transactions(self.connection, lambda: self._now)
        self._threads = ThreadPoolExecutor(10)

    def close(self) -> None:
        """End the threads, and close the file."""
        self._threads.shutdown()
        self.transactions.close()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds

    @property
    def commits(self) -> int:
        """How many transactions were committed."""
        return self.statements.count("COMMIT")

    @property
    def written(self) -> list[str]:
        """What is in the table."""
        return [row[0] for row in self.connection.execute("SELECT what FROM written ORDER BY what")]

    def write(self, what: str, then: Callable[[], object] = lambda: None) -> None:
        """Write a row in a request of its own; before its end, do something else."""
        with self.transactions.request(writes=True):
            self.connection.execute("INSERT INTO written VALUES (?)", (what,))
            then()

    def read(self) -> list[str]:
        """Read the rows in a request of its own."""
        with self.transactions.request(writes=False):
            return self.written

    def behind(self, first: Callable[[], object], *others: Callable[[], object]) -> list[Future[object]]:
        """Do others while `first` is at work, so that they wait for it; return what came of all, first of all its own.

        `first` is over only when all the others wait.
        """
        begun = threading.Event()

        def hold() -> None:
            begun.set()
            wait_until(lambda: self.transactions.waiting == len(others), lambda: "they do not wait")
            first()

        futures: list[Future[object]] = [self._threads.submit(self.write, "first", hold)]
        assert begun.wait(SECONDS)
        return [*futures, *(self._threads.submit(other) for other in others)]


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    with closing(Bed(tmp_path / "data")) as made:
        yield made


def nothing() -> None:
    """Do nothing more."""


def refuse() -> None:
    """Fail."""
    raise ValueError("refused")


def test_alone_a_request_commits_at_once(bed: Bed) -> None:
    bed.write("a")
    bed.write("b")
    assert bed.commits == 2


def test_those_that_wait_share_a_commit(bed: Bed) -> None:
    done = bed.behind(nothing, lambda: bed.write("b"), lambda: bed.write("c"), bed.read)
    for each in done:
        each.result(SECONDS)
    assert bed.commits == 1
    assert bed.written == ["b", "c", "first"]


def test_one_that_fails_takes_nothing_with_it(bed: Bed) -> None:
    done = bed.behind(nothing, lambda: bed.write("b", refuse), lambda: bed.write("c"))
    assert [type(each.exception(SECONDS)) for each in done] == [type(None), ValueError, type(None)]
    assert bed.written == ["c", "first"]


def test_the_first_that_fails_takes_nothing_with_it(bed: Bed) -> None:
    done = bed.behind(refuse, lambda: bed.write("b"))
    assert [type(each.exception(SECONDS)) for each in done] == [ValueError, type(None)]
    assert bed.written == ["b"]


def test_nobody_waits_long_for_others(bed: Bed) -> None:
    done = bed.behind(lambda: bed.advance(1), lambda: bed.write("b"), lambda: bed.write("c"))
    for each in done:
        each.result(SECONDS)
    assert bed.commits == 2


def test_a_full_disk_is_told_to_all_that_share_it(bed: Bed) -> None:
    def fill() -> None:
        bed.connection.execute("INSERT INTO written VALUES (?)", ("x" * 1_000_000,))

    bed.write("before")
    bed.connection.execute("PRAGMA max_page_count = 20")
    done = bed.behind(nothing, lambda: bed.write("b", fill), lambda: bed.write("c"))
    errors = [each.exception(SECONDS) for each in done]
    # The last may have come before the one that found the disk full, or after: then it is in a transaction of its own.
    assert isinstance(errors[0], LostTransactionError)
    assert isinstance(errors[1], sqlite3.OperationalError)
    assert "disk is full" in str(errors[0])
    assert bed.written == (["before"] if errors[2] else ["before", "c"])
    bed.write("later")
    assert "later" in bed.written


def test_a_commit_that_fails_is_told_to_all_that_share_it(bed: Bed) -> None:
    bed.connection.execute("PRAGMA foreign_keys = ON")
    bed.connection.execute("CREATE TABLE one (id INTEGER PRIMARY KEY)")
    bed.connection.execute("CREATE TABLE many (one_id REFERENCES one(id) DEFERRABLE INITIALLY DEFERRED)")
    done = bed.behind(nothing, lambda: bed.write("b", lambda: bed.connection.execute("INSERT INTO many VALUES (7)")))
    for each in done:
        assert isinstance(each.exception(SECONDS), LostTransactionError)
    assert bed.written == []
    bed.write("later")
    assert bed.written == ["later"]


def test_closing_keeps_what_is_not_yet_committed(tmp_path: Path) -> None:
    bed = Bed(tmp_path / "data")
    bed.write("a")
    bed.close()
    with closing(sqlite3.connect(tmp_path / "data")) as again:
        assert again.execute("SELECT what FROM written").fetchall() == [("a",)]


def test_nothing_acknowledged_to_many_at_once_is_lost_by_kill_9(tmp_path: Path) -> None:
    with Api(tmp_path / "server.db") as api:
        flow = api.create_flow()
        runs = api.create_flow_runs(flow, 8)
        with ThreadPoolExecutor(len(runs)) as threads:
            written = [threads.submit(_write_until_gone, api, run) for run in runs]
            wait_until(lambda: api.flow_run(runs[0])["version"] > 30, lambda: "nothing is written")
            api.kill()
            acknowledged = [each.result(SECONDS) for each in written]
        assert sum(acknowledged) > 30
        api.start()
        for run, count in zip(runs, acknowledged, strict=True):
            # Created with version 1; the last one may be there without having been acknowledged.
            assert api.flow_run(run)["version"] - 1 - count in (0, 1)
            assert len(api.states(run)) == api.flow_run(run)["version"]


def _write_until_gone(api: Api, run: str) -> int:
    """Set states until the API is gone, and return how many were acknowledged."""
    count = 0
    try:
        while True:
            api.set_state(run, "Running")
            count += 1
    except Exception as error:
        # Gone between two requests, or in the middle of one.
        if isinstance(error, OSError) or type(error).__module__ == "http.client":
            return count
        raise
