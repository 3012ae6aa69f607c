"""Requests that come together share a transaction.

What takes long in a commit is the disk (synchronous=FULL), not the work. So whatever came in one turn of the loop is
done one after the other and committed once; only then each gets its answer. Alone, a request is committed alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from local_agent.server.input.refusals import LostTransactionError, PartlyRefusedError


class Transactions:
    """The transactions of one connection, which one thread uses."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._is_open = False
        self._lost_by = ""
        self._undo: list[Callable[[], None]] = []

    @property
    def is_open(self) -> bool:
        """Whether something was written, or was to be, that is not committed yet."""
        return self._is_open

    @property
    def is_lost(self) -> bool:
        """Whether SQLite has undone what is not committed yet: a full disk makes it do that."""
        return self._is_open and not self._connection.in_transaction

    @contextmanager
    def request(self, *, writes: bool) -> Iterator[None]:
        """Take the connection for one request. An exception undoes what it wrote, and nothing else."""
        if not writes:
            yield
            return
        self._begin()
        with self.savepoint():
            yield

    def _begin(self) -> None:
        if not self._is_open:
            self._connection.execute("BEGIN IMMEDIATE")
            self._lost_by = ""
            self._undo.clear()
            self._is_open = True

    def commit(self) -> None:
        """Bring to disk what was written since the last commit. Raise LostTransactionError if it cannot be kept."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._check_not_lost()
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._undo_from(0)
            raise LostTransactionError(str(error)) from error

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what is written inside if it raises, unless it is only refused in part."""
        self._check_not_lost()
        self._connection.execute("SAVEPOINT one")
        mark = len(self._undo)
        try:
            yield
        except PartlyRefusedError:
            self._connection.execute("RELEASE one")
            raise
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO one")
                self._connection.execute("RELEASE one")
            else:
                self._lost_by = str(error)
            self._undo_from(mark)
            raise
        self._release()

    def _release(self) -> None:
        # A transaction that was lost has no savepoints any more; who shares it is told at its end.
        if self._connection.in_transaction:
            self._connection.execute("RELEASE one")

    def if_undone(self, undo: Callable[[], None]) -> None:
        """Do something if what is written now is not kept, whatever the reason: for what is not in the file."""
        self._undo.append(undo)

    def _undo_from(self, mark: int) -> None:
        while len(self._undo) > mark:
            self._undo.pop()()

    def _check_not_lost(self) -> None:
        if not self._connection.in_transaction:
            raise LostTransactionError(self._lost_by)

    def close(self) -> None:
        """Commit what is not yet, and close the connection."""
        try:
            self.commit()
        finally:
            self._connection.close()
