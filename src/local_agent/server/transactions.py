"""Requests take turns, and those that come while another is at work share its transaction.

What takes long in a commit is the disk (synchronous=FULL), not the work. So a request that finds others waiting leaves
the commit to the last of them; each is answered when it is done. Alone, a request commits at its own end.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from local_agent.server.refusals import LostTransactionError, PartlyRefusedError

# However many wait, the first of them gets its answer soon.
_MOST_REQUESTS = 64
_MOST_SECONDS = 0.05


class _Shared:
    """A transaction of one or more requests."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.requests = 0
        self._ended = threading.Event()
        self._failure: str | None = None

    def end(self, failure: str | None) -> None:
        """Tell everybody that it is committed, or why it is not."""
        self._failure = failure
        self._ended.set()

    def wait(self) -> None:
        """Return when it is committed. Raise LostTransactionError if it is not going to be."""
        self._ended.wait()
        if self._failure is not None:
            raise LostTransactionError(self._failure)


class Transactions:
    """The transactions of one connection. Safe to use from several threads."""

    def __init__(self, connection: sqlite3.Connection, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # Only its length matters; adding to it and taking from it need no lock.
        self._waiting: deque[None] = deque()
        self._shared: _Shared | None = None
        self._lost_by = ""
        self._undo: list[Callable[[], None]] = []

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self._waiting)

    @contextmanager
    def request(self, *, writes: bool) -> Iterator[None]:
        """Take the connection for one request. On leaving, what was written is on disk; an exception undoes it.

        Raise LostTransactionError on leaving if it could not be kept.
        """
        with self._turn():
            shared = self._join(writes=writes)
            try:
                if writes:
                    with self.savepoint():
                        yield
                else:
                    yield
            finally:
                self._end_unless_others_come()
        # What was only read may have been written by another request of the same transaction.
        if shared is not None:
            shared.wait()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._waiting.append(None)
        with self._lock:
            self._waiting.pop()
            yield

    def _join(self, *, writes: bool) -> _Shared | None:
        if self._shared is None and writes:
            self._connection.execute("BEGIN IMMEDIATE")
            self._lost_by = ""
            self._undo.clear()
            self._shared = _Shared(self._monotonic() + _MOST_SECONDS)
        if self._shared is not None:
            self._shared.requests += 1
        return self._shared

    def _end_unless_others_come(self) -> None:
        shared = self._shared
        if shared is None:
            return
        is_full = shared.requests >= _MOST_REQUESTS or self._monotonic() >= shared.until
        if is_full or not self.waiting or not self._connection.in_transaction:
            self._end(shared)

    def _end(self, shared: _Shared) -> None:
        self._shared = None
        try:
            self._check_not_lost()
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._undo_from(0)
            shared.end(str(error))
        else:
            shared.end(None)

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
        """Close the connection, after the request that is being answered."""
        with self._lock:
            if self._shared is not None:
                self._end(self._shared)
            self._connection.close()
