"""Requests that come at the same time share a transaction: one commit for all, and each only loses its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from api.server.local import LocalApi
from api.server.test_full_disk import BIG, allow_pages
from local_agent.server.data.transactions import Transactions
from local_agent.server.input.refusals import LostTransactionError
from support.api import Api
from support.api_client import wait_until

SECONDS = 60
SET_STATES = (
    "mutation($i: set_flow_run_states_input!) { set_flow_run_states(input: $i) { states { id status message } } }"
)
READ = "query($id: uuid!) { flow_run_by_pk(id: $id) { version state } }"


class Bed:
    """A table with one column, and what is told to SQLite about it."""

    def __init__(self, data: Path) -> None:
        self.connection = sqlite3.connect(data, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("CREATE TABLE written (what TEXT)")
        self.statements: list[str] = []
        self.connection.set_trace_callback(self.statements.append)
        self.transactions = Transactions(self.connection)

    def close(self) -> None:
        """Close the file."""
        self.transactions.close()

    @property
    def written(self) -> list[str]:
        """What is in the table."""
        return [row[0] for row in self.connection.execute("SELECT what FROM written ORDER BY what")]

    def write(self, what: str, statement: str = "") -> None:
        """Write a row in a request of its own; before its end, do something else."""
        with self.transactions.request(writes=True):
            self.connection.execute("INSERT INTO written VALUES (?)", (what,))
            self.connection.execute(statement)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    with closing(Bed(tmp_path / "data")) as made:
        yield made


def test_one_commit_for_all(bed: Bed) -> None:
    bed.write("a")
    bed.write("b")
    bed.transactions.commit()
    assert bed.statements.count("COMMIT") == 1
    assert bed.written == ["a", "b"]


def test_what_only_reads_needs_no_transaction(bed: Bed) -> None:
    with bed.transactions.request(writes=False):
        assert bed.written == []
    bed.transactions.commit()
    assert "COMMIT" not in bed.statements


def test_one_that_fails_takes_nothing_with_it(bed: Bed) -> None:
    bed.write("a")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        bed.write("b", "INSERT INTO nowhere VALUES (1)")
    bed.write("c")
    bed.transactions.commit()
    assert bed.written == ["a", "c"]


def test_a_full_disk_loses_all_that_is_not_committed(bed: Bed) -> None:
    bed.write("before")
    bed.transactions.commit()
    bed.connection.execute("PRAGMA max_page_count = 20")
    bed.write("a")
    with pytest.raises(sqlite3.OperationalError, match="disk is full"):
        bed.write("b", "INSERT INTO written VALUES (hex(zeroblob(1000000)))")
    assert bed.transactions.is_lost
    with pytest.raises(LostTransactionError, match="disk is full"):
        bed.transactions.commit()
    bed.write("later")
    bed.transactions.commit()
    assert bed.written == ["before", "later"]


def test_a_commit_that_fails_undoes_everything(bed: Bed) -> None:
    undone: list[str] = []
    bed.connection.execute("PRAGMA foreign_keys = ON")
    bed.connection.execute("CREATE TABLE one (id INTEGER PRIMARY KEY)")
    bed.connection.execute("CREATE TABLE many (one_id REFERENCES one(id) DEFERRABLE INITIALLY DEFERRED)")
    bed.write("a", "INSERT INTO many VALUES (7)")
    bed.transactions.if_undone(lambda: undone.append("a"))
    with pytest.raises(LostTransactionError, match="FOREIGN KEY"):
        bed.transactions.commit()
    assert (bed.written, undone) == ([], ["a"])
    bed.write("later")
    bed.transactions.commit()
    assert bed.written == ["later"]


def test_closing_keeps_what_is_not_yet_committed(tmp_path: Path) -> None:
    bed = Bed(tmp_path / "data")
    bed.write("a")
    bed.close()
    with closing(sqlite3.connect(tmp_path / "data")) as again:
        assert again.execute("SELECT what FROM written").fetchall() == [("a",)]


def asking(query: str, variables: Mapping[str, Any]) -> bytes:
    """Return the body of a request."""
    return json.dumps({"query": query, "variables": variables}).encode()


def setting(run: str, message: str) -> bytes:
    """Return the body of a request that sets a flow run Running."""
    state = {"type": "Running", "message": message}
    return asking(SET_STATES, {"i": {"states": [{"flow_run_id": run, "state": state}]}})


def statements(api: LocalApi) -> list[str]:
    """Return a list to which whatever SQLite is told from now on is added."""
    told: list[str] = []
    api.database._connection.set_trace_callback(told.append)
    return told


def test_requests_that_come_together_share_a_commit(api: LocalApi) -> None:
    runs = api.create_flow_runs(api.create_flow(), 5)
    told = statements(api)
    answers = api.post_all([setting(run, "together") for run in runs])
    assert [status for status, _ in answers] == [200] * 5
    assert told.count("COMMIT") == 1


def test_who_read_what_was_not_kept_is_told_so(api: LocalApi) -> None:
    first, second = api.create_flow_runs(api.create_flow(), 2)
    allow_pages(api, 10)
    before, lost, read, full, kept = api.post_all(
        [
            asking(READ, {"id": first}),
            setting(first, "lost"),
            asking(READ, {"id": first}),
            setting(second, BIG),
            asking(READ, {"id": first}),
        ]
    )
    assert [before[0], lost[0], read[0], full[0], kept[0]] == [200, 500, 500, 500, 200]
    assert before[1] == kept[1] == {"data": {"flow_run_by_pk": {"version": 1, "state": "Scheduled"}}}
    assert "disk is full" in lost[1]["errors"][0]["message"]


def test_nobody_waits_long_for_others(api: LocalApi) -> None:
    hello = asking("{ hello }", {})
    assert len(api.post_all([hello] * 10, seconds_each=0.02)) < 10
    assert len(api.post_all([hello] * 10, seconds_each=60)) == 1


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
