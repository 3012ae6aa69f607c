"""An API that goes wrong in every way, in an order that follows from a seed."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable

from support.faults import HTML, Answer, Exchange, passed_on

# the first text that is in a query names what it asks for
_OPERATIONS = {
    "register_agent": "register",
    "get_runs_in_queue": "poll",
    "write_run_logs": "write logs",
    "_run_states": "set states",
    "recent: states": "read a claim back",
    '_in: ["Running", "Scheduled"': "read an end",
    "limit: 10": "look again",
    "id state heartbeat": "look at live runs",
    "scheduled_start_time": "read details",
}


def operation_of(query: str) -> str:
    """Name what a query asks for, in the words of this file."""
    return next((name for text, name in _OPERATIONS.items() if text in query), "other")


class Mischief:
    """Meets every other request of each operation with a fault, each kind before any comes again.

    Which request of an operation meets which fault follows from the seed alone, whatever runs beside it. `slow_seconds`
    is how late a slow answer is: longer than the agent waits, shorter than it waits before it claims again.
    """

    def __init__(self, seed: int, slow_seconds: float) -> None:
        self._seed = seed
        self._slow_seconds = slow_seconds
        self._lock = threading.Lock()
        self._decks: dict[str, list[str]] = {}
        self._rounds: Counter[str] = Counter()
        self._closing = threading.Event()
        self.done: Counter[tuple[str, str]] = Counter()
        self.kinds: dict[str, Callable[[Exchange], Answer]] = {
            "lost": self._lose,
            "closed": lambda _: None,
            "slow": self._delay,
            "cut short": self._cut_short,
            "500": lambda _: (500, "text/plain", b"internal server error"),
            "503": lambda _: (503, "text/html", HTML.encode()),
            "429": lambda _: (429, "application/json", b'{"errors": [{"message": "too many requests"}]}'),
            "413": lambda _: (413, "text/html", HTML.encode()),
            "too deep": lambda _: (200, "application/json", b'{"data": ' + b"[" * 5_000 + b"]" * 5_000 + b"}"),
            "web page": lambda _: (200, "text/html", HTML.encode()),
            "errors": lambda _: _errors("INTERNAL_SERVER_ERROR"),
            "passing fault": lambda _: _errors("API_ERROR"),
        }

    def close(self) -> None:
        """End what is being delayed."""
        self._closing.set()

    def __call__(self, exchange: Exchange) -> Answer:
        """Do to a request what is its lot; a `Fault` for the proxy."""
        operation = operation_of(exchange.query)
        with self._lock:
            kind = self._deck(operation).pop()
            self.done[operation, kind] += 1
        return self.kinds[kind](exchange) if kind else passed_on(exchange)

    def _deck(self, operation: str) -> list[str]:
        deck = self._decks.setdefault(operation, [])
        if not deck:
            deck += [*self.kinds, *[""] * len(self.kinds)]
            random.Random(f"{self._seed} {operation} {self._rounds[operation]}").shuffle(deck)
            self._rounds[operation] += 1
        return deck

    def missing(self, operation: str) -> list[str]:
        """Return the faults that an operation has not met yet."""
        with self._lock:
            return [kind for kind in self.kinds if not self.done[operation, kind]]

    @staticmethod
    def _lose(exchange: Exchange) -> None:
        passed_on(exchange)

    def _delay(self, exchange: Exchange) -> Answer:
        return None if self._closing.wait(self._slow_seconds) else passed_on(exchange)

    @staticmethod
    def _cut_short(exchange: Exchange) -> Answer:
        answer = passed_on(exchange)
        return answer and (answer[0], answer[1], answer[2][: len(answer[2]) // 2])


def _errors(code: str) -> Answer:
    body = json.dumps({"errors": [{"message": "it went wrong", "extensions": {"code": code}}], "data": None})
    return 200, "application/json", body.encode()
