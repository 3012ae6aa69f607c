"""Reading from SQLite within bounds of time and size, on a connection of its own or on that of the writer."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from local_agent.server.bounds.budget import DEFAULT, Budget
from local_agent.server.data import jsonb, like
from local_agent.server.input.refusals import OutOfTimeError, TooLargeError

Row = sqlite3.Row
Parameters = Mapping[str, Any] | Iterable[Any]

# SQLite looks at the clock after so many steps of a statement: about every half millisecond.
_STEPS = 20_000

_ROWS_AT_ONCE = 500

_FUNCTIONS: tuple[tuple[str, Callable[[Any, Any], int | None]], ...] = (
    ("like_exactly", like.like),
    ("like_any_case", like.like_any_case),
    ("json_contains", jsonb.contains),
    ("json_contained", jsonb.contained),
    ("json_equals", jsonb.equals),
    ("json_has_key", jsonb.has_key),
)


class Reads:
    """What reads need of a connection. Used by one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, budget: Budget = DEFAULT) -> None:
        """Given an open connection; its functions and bounds are set here."""
        self._connection = connection
        self._budget = budget
        self._until = self._own_until = float("inf")
        connection.row_factory = sqlite3.Row
        for name, function in _FUNCTIONS:
            connection.create_function(name, 2, function, deterministic=True)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * budget.answer_bytes)
        connection.set_progress_handler(self._is_late, _STEPS)

    def _is_late(self) -> bool:
        return time.monotonic() > self._until or time.thread_time() > self._own_until

    @contextmanager
    def within(self, seconds: float, own_seconds: float = float("inf")) -> Iterator[None]:
        """Stop what is read inside after so many seconds, or so many of this thread's own, with OutOfTimeError."""
        self._until = time.monotonic() + seconds
        self._own_until = time.thread_time() + own_seconds
        try:
            yield
        finally:
            self._until = self._own_until = float("inf")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Return the rows that a statement selects."""
        with self._explained():
            return self._connection.execute(sql, bindable(parameters)).fetchall()

    def row(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """Return the first row that a statement selects, or None."""
        with self._explained():
            row: Row | None = self._connection.execute(sql, bindable(parameters)).fetchone()
            return row

    def value(self, sql: str, parameters: Parameters = ()) -> Any:  # noqa: ANN401 - any column
        """Return the first column of the first row that a statement selects, or None."""
        row = self.row(sql, parameters)
        return None if row is None else row[0]

    def texts(self, sql: str, parameters: Parameters = ()) -> list[str]:
        """Return the first column of every row. Raise TooLargeError for more rows, or longer ones, than are allowed."""
        found: list[str] = []
        size = 0
        with self._explained():
            cursor = self._connection.execute(sql, bindable(parameters))
            while page := cursor.fetchmany(_ROWS_AT_ONCE):
                found += [row[0] for row in page]
                size += sum(len(row[0]) for row in page)
                self._check(len(found), size)
        return found

    def _check(self, rows: int, size: int) -> None:
        if rows > self._budget.rows:
            raise TooLargeError(f"The answer has more than {self._budget.rows} rows: ask for fewer with a limit")
        if size > self._budget.answer_bytes:
            raise TooLargeError(f"The answer has more than {self._budget.answer_bytes} bytes: ask for less")
        if self._is_late():
            raise OutOfTimeError

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise OutOfTimeError from None
            if "user-defined function" in str(error):
                raise TooLargeError("A filter compares JSON values that are too large for it") from None
            raise
        except sqlite3.DataError as error:
            if "too big" not in str(error):
                raise
            most = self._budget.answer_bytes
            raise TooLargeError(f"The answer has more than {most} bytes: ask for less") from None


def bindable(parameters: Parameters) -> Any:  # noqa: ANN401 - what sqlite3 takes
    """Return parameters as sqlite3 takes them."""
    return parameters if isinstance(parameters, Mapping) else tuple(parameters)
