"""SQLite: one file, one connection.

Requests take turns (transactions.py). Each is committed, and on disk (synchronous=FULL), before its answer is sent, so
that neither kill -9 nor a power cut loses what was acknowledged. Within it every mutation has a savepoint: one that is
refused leaves no trace and takes nothing with it.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from local_agent.errors import StateError
from local_agent.server import likeness, tables, timestamps
from local_agent.server.refusals import RefusedError
from local_agent.server.tables import Column, Kind, Table
from local_agent.server.timestamps import Clock
from local_agent.server.transactions import Transactions

SCHEMA_VERSION = 1

# The system's clock may be set back a little by NTP; when it is set back by more, it is to be believed.
_SMALL_STEP_BACK = timedelta(milliseconds=10)

Row = sqlite3.Row


# Made once: json.dumps makes one at each call with options.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class JsonText(str):
    """A JSON value that is encoded already."""

    __slots__ = ()


def to_json(value: object) -> JsonText:
    """Given a JSON value, return its text. Raise RefusedError for what JSON does not have (NaN, infinity)."""
    try:
        return JsonText(_encode(value))
    except ValueError as error:
        raise RefusedError(f"This is not JSON: {error}") from None


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


class Database:
    """The API's data. Everything but `transaction` is called within a transaction."""

    def __init__(self, path: Path, clock: Clock = timestamps.utc_now) -> None:
        """Open or create the file. Raise StateError if that cannot be done or it is not ours."""
        self._clock = clock
        self._last_moment = datetime.min.replace(tzinfo=UTC)
        self._connection = _open(path)
        try:
            _prepare(self._connection, path)
        except BaseException:
            self._connection.close()
            raise
        self._transactions = Transactions(self._connection)
        with self.transaction(writes=True):
            self._create_first_tenant()

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
        """Take the database for one request. On leaving, what was written is on disk; an exception undoes it.

        Raise LostTransactionError on leaving if it could not be kept.
        """
        return self._transactions.request(writes=writes)

    def savepoint(self) -> AbstractContextManager[None]:
        """Undo what is written inside if it raises, unless it is only refused in part."""
        return self._transactions.savepoint()

    def if_undone(self, undo: Callable[[], None]) -> None:
        """Do something if what is written now is not kept, whatever the reason: for what is not in the file."""
        self._transactions.if_undone(undo)

    def close(self) -> None:
        """Close the file, after the request that is being answered."""
        self._transactions.close()

    def rows(self, sql: str, parameters: Mapping[str, Any] | Iterable[Any] = ()) -> list[Row]:
        """Return the rows that a statement selects."""
        return self._connection.execute(sql, _bindable(parameters)).fetchall()

    def row(self, sql: str, parameters: Mapping[str, Any] | Iterable[Any] = ()) -> Row | None:
        """Return the first row that a statement selects, or None."""
        row: Row | None = self._connection.execute(sql, _bindable(parameters)).fetchone()
        return row

    def value(self, sql: str, parameters: Mapping[str, Any] | Iterable[Any] = ()) -> Any:  # noqa: ANN401 - any column
        """Return the first column of the first row that a statement selects, or None."""
        row = self.row(sql, parameters)
        return None if row is None else row[0]

    def write(self, sql: str, parameters: Mapping[str, Any] | Iterable[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        return self._connection.execute(sql, _bindable(parameters)).rowcount

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


def _bindable(parameters: Mapping[str, Any] | Iterable[Any]) -> Any:  # noqa: ANN401 - what sqlite3 takes
    return parameters if isinstance(parameters, Mapping) else tuple(parameters)


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only for its owner: it holds parameters and secrets.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, error) from error
    connection.row_factory = sqlite3.Row
    return connection


def _unusable(path: Path, error: object) -> StateError:
    return StateError(f"the data file {path} cannot be used: {error}", hint="choose a writable place with --data PATH")


_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    # A second server on one file would hand runs out twice: the first keeps it for itself.
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA busy_timeout = 1000",
    "PRAGMA temp_store = MEMORY",
)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    try:
        for name, function in _FUNCTIONS:
            connection.create_function(name, 2, function, deterministic=True)
        # The order matters: WAL without shared memory needs the exclusive mode first.
        for pragma in reversed(_PRAGMAS):
            connection.execute(pragma)
        connection.execute("BEGIN IMMEDIATE")
        _create_tables(connection, path)
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise StateError(
                f"the data file {path} is in use by another local-agent server",
                hint="stop that one, or give this one a file of its own with --data PATH",
            ) from error
        raise _unusable(path, error) from error
    except sqlite3.Error as error:
        raise _unusable(path, error) from error


_FUNCTIONS: tuple[tuple[str, Callable[[Any, Any], int | None]], ...] = (
    ("like_exactly", likeness.like),
    ("like_any_case", likeness.like_any_case),
)


def _create_tables(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:
        _create_indexes(connection)
        return
    if version != 0 or connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise StateError(
            f"the data file {path} is not one of this local-agent (its version is {version}, not {SCHEMA_VERSION})",
            hint="choose another place with --data PATH, or move the file away",
        )
    for table in tables.TABLES:
        connection.execute(definition(table))
    _create_indexes(connection)
    connection.execute(SECRETS)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _create_indexes(connection: sqlite3.Connection) -> None:
    # Not only in a new file: an index is no other schema, and the version before can live with one more.
    for table in tables.TABLES:
        for statement in index_definitions(table):
            connection.execute(statement)


# No GraphQL type shows this table: a secret's value is only given out by name.
SECRETS = (
    "CREATE TABLE secret (tenant_id TEXT NOT NULL REFERENCES tenant(id) ON DELETE CASCADE, name TEXT NOT NULL,"
    " value TEXT NOT NULL, PRIMARY KEY (tenant_id, name))"
)


def definition(table: Table) -> str:
    """Given a table, return the SQL statement that creates it."""
    stored = [
        f"{column.name} {column.kind.sql} {column.stored}".strip() for column in table.columns if not column.computed
    ]
    return f"CREATE TABLE {table.name} ({', '.join([*stored, *table.constraints])})"


def index_definitions(table: Table) -> list[str]:
    """Given a table, return the SQL statements that create those of its indexes that are not there yet."""
    statements = []
    for number, index in enumerate(table.indexes):
        where = f" WHERE {index.where}" if index.where else ""
        kind = "UNIQUE INDEX" if index.unique else "INDEX"
        name = f"{table.name}_{number}"
        statements.append(f"CREATE {kind} IF NOT EXISTS {name} ON {table.name} ({index.columns}){where}")
    return statements
