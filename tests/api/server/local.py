"""The embedded API within this process, with a clock that tests move."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from local_agent.server import app
from local_agent.server.asking.request import Asked
from local_agent.server.asking.stats import Stats
from local_agent.server.bounds.budget import DEFAULT, Budget
from local_agent.server.data.database import Database
from local_agent.server.engine import Answer, Next
from support.api_client import ApiClient


class Time:
    """A clock that only moves when it is told to, but for a microsecond each time it is read."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 22, 7, 0, tzinfo=UTC)
        self.pace_seconds = 0.0

    def utc(self) -> datetime:
        """Return now; no two readings are the same."""
        self._now += timedelta(microseconds=1)
        return self._now

    def monotonic(self) -> float:
        """Return the seconds since some moment; each reading takes `pace_seconds`."""
        self.advance(self.pace_seconds)
        return self._now.timestamp()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)

    def text(self, seconds_from_now: float = 0.0) -> str:
        """Return a time as the API writes it."""
        return (self._now + timedelta(seconds=seconds_from_now)).isoformat(timespec="microseconds")


# Its time is the clock's, and a busy machine takes of that: what a test asks is not refused for it
_PATIENT = replace(DEFAULT, seconds=60.0, write_seconds=60.0)


class LocalApi(ApiClient):
    """Answers requests without HTTP. `said` has the lines for its console."""

    def __init__(self, database: Database, settings: app.Settings, time: Time, budget: Budget) -> None:
        super().__init__()
        self.time = time
        self.said: list[str] = []
        self.database = database
        self.stats = Stats()
        self._engine = app.build_engine(
            database, settings, stats=self.stats, say=self.said.append, monotonic=time.monotonic, budget=budget
        )

    def post(self, body: object, *, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Hand the body's JSON to the engine."""
        lowered = {name.lower(): value for name, value in (headers or {}).items()}
        (answer,) = self._answered([Asked(json.dumps(body).encode(), lowered)])
        return answer.status, json.loads(answer.body)

    def _answered(self, asked: Sequence[Asked]) -> list[Answer]:
        answers = self._engine.answer_all(asked)
        return [self._answer_at_last(one, answer) for one, answer in zip(asked, answers, strict=False)]

    def _answer_at_last(self, asked: Asked, answer: Answer | Next) -> Answer:
        while not isinstance(answer, Answer):
            answer = self._engine.answer_slowly(asked) if answer is Next.SLOWLY else self._engine.answer_all([asked])[0]
        return answer

    def post_all(self, bodies: Sequence[bytes], *, seconds_each: float = 0.0) -> list[tuple[int, dict[str, Any]]]:
        """Hand over requests that come together, each of which takes so long. Return the answers that there are."""
        self.time.pace_seconds = seconds_each
        answers = self._answered([Asked(body, {}) for body in bodies])
        self.time.pace_seconds = 0.0
        return [(answer.status, json.loads(answer.body)) for answer in answers]

    def errors(self, query: str, variables: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Send a request that shall fail, and return its errors."""
        _, answer = self.post({"query": query, "variables": variables})
        errors: list[dict[str, Any]] = answer["errors"]
        return errors


@contextmanager
def local_api(
    data: Path, *, key: str | None = None, submit_lock: bool = True, budget: Budget = _PATIENT
) -> Iterator[LocalApi]:
    """Give an API on a data file, open until the end of the block."""
    time = Time()
    settings = app.Settings(data, api_key=key, submit_lock=submit_lock)
    database = Database(data, time.utc)
    try:
        yield LocalApi(database, settings, time, budget)
    finally:
        database.close()
