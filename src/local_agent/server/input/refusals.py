"""What the database and those who use it raise to undo something."""

from __future__ import annotations

import sqlite3


class RefusedError(Exception):
    """A request that the API understands and refuses. Its text is the GraphQL error's message.

    `detail` says more, where Prefect wants the message to be what it is and nothing else.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class PartlyRefusedError(RefusedError):
    """Refused in part: what was done before stays done, as the real API has it for a list of states."""


class LostTransactionError(sqlite3.OperationalError):
    """The transaction was undone (a full disk makes SQLite do that): nothing of the request will be kept."""


class OutOfTimeError(Exception):
    """A read took longer than it was given, and was stopped."""


class TooLargeError(RefusedError):
    """An answer, or what has to be looked at for it, passes a bound of the request's budget."""
