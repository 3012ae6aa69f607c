"""Lines for the logs of flow runs at the API, many runs' lines in one request."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from local_agent.backends.prefect1 import queries
from local_agent.clock import Backoff
from local_agent.errors import ApiRefusedError, CredentialError, UnavailableError

if TYPE_CHECKING:
    from datetime import datetime

    from local_agent.backends.prefect1.transport import Transport
    from local_agent.clock import Clock

_MOST_WAITING = 10_000
_MOST_AT_ONCE = 500
_MOST_CHARACTERS = 100_000  # the Server takes 1 MB a record and 5 MB a request
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
        self._waiting: deque[_Line] = deque(maxlen=_MOST_WAITING)
        self._has_lines = asyncio.Event()

    def add(self, flow_run_id: str, message: str, level: str) -> None:
        """Queue one line, stamped now."""
        self._waiting.append(_Line(flow_run_id, self._clock.now(), message[:_MOST_CHARACTERS], level))
        self._has_lines.set()

    async def flush_for_ever(self) -> None:
        """Send what is queued, until cancelled. A refused batch is dropped: asking again would be refused again."""
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
        batch = [self._waiting.popleft() for _ in range(min(_MOST_AT_ONCE, len(self._waiting)))]
        if not self._waiting:
            self._has_lines.clear()
        if not batch:
            return
        lines = [line.as_input(self._name) for line in batch]
        try:
            await self._transport.ask(queries.WRITE_LOGS, {"input": {"logs": lines}})
        except ApiRefusedError:
            return
        except (UnavailableError, CredentialError):
            self._waiting.extendleft(reversed(batch))
            self._has_lines.set()
            raise
