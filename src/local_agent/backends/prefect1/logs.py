"""Lines for the logs of flow runs at the API, many runs' lines in one request."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

from local_agent.aio.batching import in_parts
from local_agent.aio.clock import Backoff
from local_agent.backends.prefect1 import queries
from local_agent.errors import CredentialError, UnavailableError
from local_agent.plain import MAX_LINE, sendable, short

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from local_agent.aio.clock import Clock
    from local_agent.backends.prefect1.transport import Transport

_MAX_WAITING = 10_000
_MAX_AT_ONCE = 500
_MAX_CHARACTERS = 100_000  # of a request: the Server takes 5 MB, in which a character may take 14 bytes
_GATHER_SECONDS = 1.0  # lines of one page of the queue go out together


@dataclass(frozen=True, slots=True)
class _Line:
    flow_run_id: str
    at: datetime
    message: str
    level: str

    def as_input(self, name: str) -> dict[str, Any]:
        return {
            "flow_run_id": self.flow_run_id,
            "timestamp": self.at.astimezone(UTC).isoformat(),
            "name": name,
            "message": self.message,
            "level": self.level,
        }


class RunLogs:
    """Queues lines and sends them in batches; during an outage the newest ten thousand wait."""

    def __init__(self, transport: Transport, clock: Clock, name: str) -> None:
        self._transport = transport
        self._clock = clock
        self._name = name
        self._waiting: deque[_Line] = deque(maxlen=_MAX_WAITING)
        self._has_lines = asyncio.Event()

    def add(self, flow_run_id: str, message: str, level: str) -> None:
        """Queue one line, stamped now."""
        self._waiting.append(_Line(flow_run_id, self._clock.now(), sendable(message), level))
        self._has_lines.set()

    async def flush_for_ever(self) -> None:
        """Send what is queued, until cancelled. A refused line is dropped: asking again would be refused again."""
        backoff = Backoff(0.5, 10)
        while True:
            await self._has_lines.wait()
            await self._clock.sleep(_GATHER_SECONDS)
            try:
                await self._send_a_batch()
            except (UnavailableError, CredentialError):
                await self._clock.sleep(backoff.next_seconds())
            else:
                backoff.reset()

    async def _send_a_batch(self) -> None:
        batch = self._next_batch()
        if not self._waiting:
            self._has_lines.clear()
        answers = await in_parts(batch, self._send)
        later = list(map(_to_send_again, batch, answers))
        self._put_back([line for line in later if line is not None])
        for answer in answers:
            if isinstance(answer, (UnavailableError, CredentialError)):
                raise answer

    def _next_batch(self) -> list[_Line]:
        batch: list[_Line] = []
        size = 0
        while self._waiting and len(batch) < _MAX_AT_ONCE and size < _MAX_CHARACTERS:
            batch.append(self._waiting.popleft())
            size += len(batch[-1].message)
        return batch

    def _put_back(self, lines: Sequence[_Line]) -> None:
        """Let lines wait again, before those that came since; where that is too many the oldest go."""
        if lines:
            self._waiting = deque([*lines, *self._waiting], maxlen=_MAX_WAITING)
            self._has_lines.set()

    async def _send(self, batch: Sequence[_Line]) -> list[Exception | None]:
        if batch:
            lines = [line.as_input(self._name) for line in batch]
            await self._transport.ask(queries.WRITE_LOGS, {"input": {"logs": lines}})
        return [None] * len(batch)


def _to_send_again(line: _Line, answer: Exception | None) -> _Line | None:
    """Given a line and what came of it, return what is to be sent again, None where nothing is.

    One that is refused for itself is sent once more without its end; refused again, it is dropped.
    """
    if isinstance(answer, (UnavailableError, CredentialError)):
        return line
    if answer is None or len(line.message) <= MAX_LINE:
        return None
    return replace(line, message=short(line.message, MAX_LINE - len("...")))
