"""SQLite: one file, one connection.

One thread uses it. What a request writes is committed, and on disk (synchronous=FULL), before its answer is sent, so
that neither kill -9 nor a power cut loses what was acknowledged; requests that come together share a commit
(transactions.py). Every mutation has a savepoint: one that is refused leaves no trace and takes nothing with it.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from local_agent.server.bounds.budget import DEFAULT, Budget
from local_agent.server.data import datafile, tables, timestamps
from local_agent.server.data.descriptions import Column, Kind
from local_agent.server.data.lanes import Lane
from local_agent.server.data.reads import Parameters, Reads, bindable
from local_agent.server.data.timestamps import Clock
from local_agent.server.data.transactions import Transactions
from local_agent.server.input.json_text import JsonText, to_json

# The system's clock may be set back a little by NTP; when it is set back by more, it is to be believed.
_SMALL_STEP_BACK = timedelta(milliseconds=10)


def new_id() -> str:
    """Return a new random id."""
    return str(uuid.uuid4())


def ordered_id(moment: datetime) -> str:
    """Return a new id that sorts by its time (UUID version 7).

    Rows that are written together so lie together in the index of their ids, and a commit has fewer pages to write.
    """
    bits = (int(moment.timestamp() * 1000) << 80) | secrets.randbits(80)
    bits = bits & ~(0xF000 << 64) | (7 << 76)
    bits = bits & ~(0xC000 << 48) | (2 << 62)
    return str(uuid.UUID(int=bits))


class Database(Reads):
    """The API's data. Everything but `transaction`, `commit` and the lanes is called within a transaction."""

    def __init__(
        self,
        path: Path,
        clock: Clock = timestamps.utc_now,
        *,
        say: Callable[[str], None] = lambda _line: None,
        budget: Budget = DEFAULT,
    ) -> None:
        """Open or create the file. Raise StateError if that cannot be done, or it is not ours or damaged."""
        self._clock = clock
        self._path = path
        self._last_moment = datetime.min.replace(tzinfo=UTC)
        self._claim = datafile.claim(path)
        try:
            connection = datafile.open_writer(path, say)
            super().__init__(connection, budget)
            self._transactions = Transactions(connection)
            self.long_lane = Lane("long-reads", self._reader)
            self.middle_lane = Lane("reads", self._reader)
            with self.transaction(writes=True):
                self._create_first_tenant()
            self.commit()
        except BaseException:
            self._claim.close()
            raise

    def _reader(self) -> Reads:
        return Reads(datafile.open_reader(self._path), self._budget)

    def _create_first_tenant(self) -> None:
        if self.value("SELECT count(*) FROM tenant") == 0:
            self.insert("tenant", name="default", slug="default", settings={}, info={})

    def now(self) -> str:
        """Return now as the API writes it, and never the same moment twice: rows are put in order by their times."""
        now = self._clock()
        if now <= self._last_moment < now + _SMALL_STEP_BACK:
            now = self._last_moment + timedelta(microseconds=1)
        self._last_moment = now
        return timestamps.to_text(now)

    def transaction(self, *, writes: bool) -> AbstractContextManager[None]:
        """Take the database for one request. An exception undoes what it wrote; `commit` keeps it."""
        return self._transactions.request(writes=writes)

    @property
    def is_uncommitted(self) -> bool:
        """Whether something was written that is not on disk yet: whoever reads now may see what will not last."""
        return self._transactions.is_open

    @property
    def is_lost(self) -> bool:
        """Whether what was written since the last commit is gone already: a full disk makes SQLite do that."""
        return self._transactions.is_lost

    def commit(self) -> None:
        """Bring to disk what was written since the last commit. Raise LostTransactionError if it cannot be kept."""
        self._transactions.commit()

    def savepoint(self) -> AbstractContextManager[None]:
        """Undo what is written inside if it raises, unless it is only refused in part."""
        return self._transactions.savepoint()

    def if_undone(self, undo: Callable[[], None]) -> None:
        """Do something if what is written now is not kept, whatever the reason: for what is not in the file."""
        self._transactions.if_undone(undo)

    def access_keys(self, accounts: Mapping[str, str]) -> dict[str, str]:
        """Given the accounts that may use the unix socket, by their allowance, return a key for each.

        Who had one keeps it. Those of all others are forgotten: a key ends with the option that gave it, and does not
        come back with it, nor pass to another account that got the number of the first.
        """
        with self.transaction(writes=True):
            self.write(datafile.ACCESS)
            for allowance, account in self.rows("SELECT allowance, account FROM access_key"):
                if accounts.get(allowance) != account:
                    self.write("DELETE FROM access_key WHERE allowance = ?", (allowance,))
            for allowance, account in accounts.items():
                row = (allowance, account, secrets.token_hex(32))
                self.write("INSERT OR IGNORE INTO access_key VALUES (?, ?, ?)", row)
            keys = {row["allowance"]: row["api_key"] for row in self.rows("SELECT allowance, api_key FROM access_key")}
        self.commit()
        return keys

    def close(self) -> None:
        """Commit what is not yet, and close the file."""
        self.long_lane.close()
        self.middle_lane.close()
        self._transactions.close()
        self._claim.close()

    def write(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement and return how many rows it changed."""
        return self._connection.execute(sql, bindable(parameters)).rowcount

    def insert(self, table: str, **values: object) -> str:
        """Insert a row and return its id. `id`, `created`, `updated` are made here.

        JSON columns take JSON values, or their text as JsonText.
        """
        self.insert_many(table, [values])
        return str(values["id"])

    def insert_many(self, table: str, rows: list[dict[str, Any]], *, or_ignore: bool = False) -> None:
        """Insert rows that all name the same columns. `or_ignore` leaves out those that are already there."""
        if not rows:
            return
        for row in rows:
            now = self.now()
            if "id" not in row:
                row["id"] = ordered_id(self._last_moment) if tables.BY_NAME[table].is_history else new_id()
            row.update(created=now, updated=now)
        sql = _insertion("INSERT OR IGNORE" if or_ignore else "INSERT", table, tuple(rows[0]))
        columns = tables.BY_NAME[table].by_name
        self._connection.executemany(sql, [_storable(columns, row) for row in rows])

    def update(self, table: str, row_id: str, **values: object) -> bool:
        """Change a row and say whether there is one with this id."""
        values["updated"] = self.now()
        sql = _change(table, tuple(values))
        return self.write(sql, {**_storable(tables.BY_NAME[table].by_name, values), "row_id": row_id}) > 0

    def delete(self, table: str, row_id: str) -> bool:
        """Delete a row and all that belongs to it, and say whether there was one."""
        return self.write(f"DELETE FROM {table} WHERE id = ?", (row_id,)) > 0  # noqa: S608 - a name of our own


@lru_cache
def _insertion(verb: str, table: str, names: tuple[str, ...]) -> str:
    return f"{verb} INTO {table} ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"


@lru_cache
def _change(table: str, names: tuple[str, ...]) -> str:
    settings = ", ".join(f"{name} = :{name}" for name in names)
    return f"UPDATE {table} SET {settings} WHERE id = :row_id"  # noqa: S608 - names of our own


def _storable(columns: Mapping[str, Column], values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: to_json(value) if columns[name].kind is Kind.JSON and _is_to_encode(value) else value
        for name, value in values.items()
    }


def _is_to_encode(value: object) -> bool:
    return value is not None and not isinstance(value, JsonText)
