"""The data file: whose it is, whether it is whole, what is in it, and the connections to it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from local_agent.errors import StateError
from local_agent.server.data import intervals, labels, tables
from local_agent.server.data.descriptions import Table

SCHEMA_VERSION = 1

# The whole file is read for a check. Measured: 560 MB take 1.5 s from the page cache, and 58 s from a slow disk, which
# is too long to wait for at each start.
CHECK_SECONDS = 10.0

# SQLite's own 2 MB would make a file that has outgrown them be read again and again.
_CACHE_KIB = 32 * 1024

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 1000",
    "PRAGMA temp_store = MEMORY",
    f"PRAGMA cache_size = -{_CACHE_KIB}",
)


def claim(path: Path) -> IO[bytes]:
    """Make the data file this process's own, until what is returned is closed. Raise StateError if it is another's.

    A second server on one file would hand runs out twice. SQLite's own exclusive mode would keep out this process's
    reading connection and `sqlite3 FILE .backup` too.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only for its owner: it holds parameters and secrets.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        held = os.fdopen(os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600), "r+b")
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise _in_use(path) from None
    except OSError as error:
        held.close()
        raise _unusable(path, error) from error
    return held


def open_writer(path: Path, say: Callable[[str], None], *, check_seconds: float = CHECK_SECONDS) -> sqlite3.Connection:
    """Open the file for reading and writing, made and checked. Raise StateError if that cannot be done.

    `say` is told if the file is too large to be checked whole in so many seconds.
    """
    connection = _connect(path)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        _check_whole(connection, path, say, check_seconds)
        connection.execute("BEGIN IMMEDIATE")
        _create_tables(connection, path)
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _explained(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a file that the writer has made once more, for reading."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    # Opens the write-ahead log now: with as many connections open as are allowed, that could fail later.
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)
    except sqlite3.Error as error:
        raise _unusable(path, error) from error


def _check_whole(connection: sqlite3.Connection, path: Path, say: Callable[[str], None], seconds: float) -> None:
    """Raise StateError for a file with a damaged page: served without a word, it would lose more with each write."""
    done = threading.Event()
    patience = threading.Thread(target=_interrupt_after, args=(connection, seconds, done), name="check")
    patience.start()
    try:
        # The first finding is enough.
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        say(
            f"error: the data file {path} is too large to be checked whole in {seconds:g} s;"
            f" check it yourself at times: sqlite3 {path} 'PRAGMA quick_check'"
        )
        return
    finally:
        done.set()
        patience.join()
    if found != "ok":
        raise _damaged(path, found)


def _interrupt_after(connection: sqlite3.Connection, seconds: float, done: threading.Event) -> None:
    # Not by a progress handler: to SQLite the check of a whole table is one step. More than once: what has not begun is
    # not interrupted.
    while not done.wait(seconds):
        connection.interrupt()
        seconds = 0.02


def _explained(path: Path, error: sqlite3.DatabaseError) -> StateError:
    if "locked" in str(error):
        return _in_use(path)
    if isinstance(error, sqlite3.OperationalError):
        return _unusable(path, error)
    return _damaged(path, error) if "malformed" in str(error) else _unusable(path, error)


def _unusable(path: Path, error: object) -> StateError:
    return StateError(f"the data file {path} cannot be used: {error}", hint="choose a writable place with --data PATH")


def _in_use(path: Path) -> StateError:
    return StateError(
        f"the data file {path} is in use by another local-agent server",
        hint="stop that one, or give this one a file of its own with --data PATH",
    )


def _damaged(path: Path, finding: object) -> StateError:
    return StateError(
        f"the data file {path} is damaged: {' '.join(str(finding).split())}",
        hint="put a backup in its place; or rescue what is readable: move it away with its -wal file, then"
        f" `sqlite3 MOVED .recover | sqlite3 {path}`, and look at the disk (dmesg, smartctl)",
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
    known = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
    for table in tables.TABLES:
        for name, statement in index_definitions(table).items():
            if name in known and statement.startswith("DROP"):
                connection.execute(statement)
                _renew(connection, name)
            elif name not in known and not statement.startswith("DROP"):
                connection.execute(statement)


def _renew(connection: sqlite3.Connection, dropped: str) -> None:
    """Bring rows of an earlier version, which is known by an index that it made, into the form that they have now."""
    if dropped == "flow_run_4":
        labels.normalise_all(connection)
        intervals.normalise_all(connection)


# No GraphQL type shows this table: a secret's value is only given out by name.
SECRETS = (
    "CREATE TABLE secret (tenant_id TEXT NOT NULL REFERENCES tenant(id) ON DELETE CASCADE, name TEXT NOT NULL,"
    " value TEXT NOT NULL, PRIMARY KEY (tenant_id, name))"
)

# No GraphQL type shows it either. The version before can live with this table.
ACCESS = (
    "CREATE TABLE IF NOT EXISTS access_key (allowance TEXT PRIMARY KEY, account TEXT NOT NULL, api_key TEXT NOT NULL)"
)


def definition(table: Table) -> str:
    """Given a table, return the SQL statement that creates it."""
    stored = [
        f"{column.name} {column.kind.sql} {column.stored}".strip() for column in table.columns if not column.computed
    ]
    return f"CREATE TABLE {table.name} ({', '.join([*stored, *table.constraints])})"


def index_definitions(table: Table) -> dict[str, str]:
    """Given a table, return the SQL statements that create its indexes, or drop those of earlier versions, by name."""
    statements = {}
    for number, index in enumerate(table.indexes):
        name = f"{table.name}_{number}"
        if not index.columns:
            statements[name] = f"DROP INDEX {name}"
            continue
        where = f" WHERE {index.where}" if index.where else ""
        kind = "UNIQUE INDEX" if index.unique else "INDEX"
        statements[name] = f"CREATE {kind} {name} ON {table.name} ({index.columns}){where}"
    return statements
